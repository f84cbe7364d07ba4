// Multi-scale deformable attention: schema, checks and the processor's implementation.

#include "tensors.h"

#include <cstdlib>
#include <cstring>

#include "cpu/kernels.h"

namespace segue {
namespace {

// What the CPU supports, but no more than torch itself may use (its variable ATEN_CPU_CAPABILITY).
InstructionSet find_instruction_set() {
#if defined(__x86_64__)
  const char* limit = std::getenv("ATEN_CPU_CAPABILITY");
  const bool plain_only = limit && std::strcmp(limit, "default") == 0;
  const bool avx2_only = limit && std::strcmp(limit, "avx2") == 0;
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");  // both imply F16C on every processor
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (avx512 && !avx2_only && !plain_only) return InstructionSet::avx512;
  if (avx2 && !plain_only) return InstructionSet::avx2;
#endif
  return InstructionSet::plain;
}

InstructionSet instruction_set() {
  static const InstructionSet chosen = find_instruction_set();
  return chosen;
}

CpuKernels kernels() {
#if defined(__x86_64__)
  if (instruction_set() == InstructionSet::avx512) return avx512_kernels();
  if (instruction_set() == InstructionSet::avx2) return avx2_kernels();
#endif
  return plain_kernels();
}

constexpr int64_t kSamplesPerTask = 4096;  // below this, waking another thread costs more than it saves

Tensor forward_cpu(Tensor value, Tensor locations, Tensor weights, std::vector<int64_t> shapes) {
  value = torch::stable::contiguous(value);
  locations = torch::stable::contiguous(locations);
  weights = torch::stable::contiguous(weights);
  const Problem problem = problem_of(value, locations, weights, shapes);
  Tensor output = torch::stable::new_empty(value, {problem.batch, problem.queries, problem.heads * problem.channels});
  void* data = output.mutable_data_ptr();
  const CpuKernels run = kernels();
  const int64_t samples_per_query = problem.heads * problem.levels * problem.points;
  torch::stable::parallel_for(
      0, problem.batch * problem.queries, kSamplesPerTask / (samples_per_query + 1) + 1,
      [&](int64_t begin, int64_t end) { run.forward(problem, data, begin, end); });
  return output;
}

std::tuple<Tensor, Tensor, Tensor> backward_cpu(
    Tensor output_gradient, Tensor value, Tensor locations, Tensor weights, std::vector<int64_t> shapes) {
  output_gradient = torch::stable::contiguous(output_gradient);
  value = torch::stable::contiguous(value);
  locations = torch::stable::contiguous(locations);
  weights = torch::stable::contiguous(weights);
  const Problem problem = problem_of(value, locations, weights, shapes);
  check_output_gradient(output_gradient, value, problem);
  Tensor value_gradient = torch::stable::empty_like(value);
  Tensor locations_gradient = torch::stable::empty_like(locations);
  Tensor weights_gradient = torch::stable::empty_like(weights);
  const Gradients gradients{output_gradient.const_data_ptr(), value_gradient.mutable_data_ptr(),
                            locations_gradient.mutable_data_ptr(), weights_gradient.mutable_data_ptr()};
  const CpuKernels run = kernels();
  const int64_t samples_per_unit = problem.queries * problem.points;
  torch::stable::parallel_for(
      0, problem.batch * problem.heads * problem.levels, kSamplesPerTask / 4 / (samples_per_unit + 1) + 1,
      [&](int64_t begin, int64_t end) { run.backward(problem, gradients, begin, end); });
  return {value_gradient, locations_gradient, weights_gradient};
}

int64_t cpu_instruction_set() { return static_cast<int64_t>(instruction_set()); }

}  // namespace
}  // namespace segue

STABLE_TORCH_LIBRARY(segue, library) {
  library.def(
      "ms_deform_attn(Tensor value, Tensor sampling_locations, Tensor attention_weights, SymInt[] spatial_shapes) -> Tensor");
  library.def(
      "ms_deform_attn_backward(Tensor output_gradient, Tensor value, Tensor sampling_locations, Tensor attention_weights, "
      "SymInt[] spatial_shapes) -> (Tensor, Tensor, Tensor)");
  library.def("cpu_instruction_set() -> int");
}

STABLE_TORCH_LIBRARY_IMPL(segue, CPU, library) {
  library.impl("ms_deform_attn", TORCH_BOX(&segue::forward_cpu));
  library.impl("ms_deform_attn_backward", TORCH_BOX(&segue::backward_cpu));
}

STABLE_TORCH_LIBRARY_IMPL(segue, CompositeExplicitAutograd, library) {
  library.impl("cpu_instruction_set", TORCH_BOX(&segue::cpu_instruction_set));
}
