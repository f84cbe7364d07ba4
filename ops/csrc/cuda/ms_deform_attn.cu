// Multi-scale deformable attention: the graphics card's implementation.

#include "../tensors.h"

#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "kernels.cuh"
#include "launch.h"

namespace segue {
namespace {

using BFloat16 = c10::BFloat16;
using Float16 = c10::Half;

cudaStream_t current_stream(const Tensor& tensor) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  return static_cast<cudaStream_t>(stream);
}

// Calls work(value type, weight type, type of locations and sums) with one example of each type.
template <class Work>
void with_types(const Problem& problem, const Work& work) {
  const bool wide_weights = problem.weight_type == Element::float32;
  switch (problem.value_type) {
    case Element::float32:
      return work(float(), float(), float());
    case Element::float64:
      return work(double(), double(), double());
    case Element::bfloat16:
      return wide_weights ? work(BFloat16(), float(), float()) : work(BFloat16(), BFloat16(), float());
    case Element::float16:
      return wide_weights ? work(Float16(), float(), float()) : work(Float16(), Float16(), float());
  }
}

Tensor forward_cuda(Tensor value, Tensor locations, Tensor weights, std::vector<int64_t> shapes) {
  value = torch::stable::contiguous(value);
  locations = aligned(torch::stable::contiguous(locations));
  weights = torch::stable::contiguous(weights);
  const Problem problem = problem_of(value, locations, weights, shapes);
  const torch::stable::accelerator::DeviceGuard guard(value.get_device_index());
  Tensor output = torch::stable::new_empty(value, {problem.batch, problem.queries, problem.heads * problem.channels});
  if (output.numel() == 0) return output;
  void* data = output.mutable_data_ptr();
  with_types(problem, [&](auto example, auto weight, auto real) {
    using T = decltype(example);
    using Weight = decltype(weight);
    using Real = decltype(real);
    const Launch launch = launch_of(problem, Kernels<T, Weight, Real>::pack, {problem.value, data});
    const auto kernel = Kernels<T, Weight, Real>::forward(launch);
    kernel<<<dim3(launch.blocks, launch.images), kThreads, 0, current_stream(value)>>>(
        shape_of(problem), launch.lanes, static_cast<const T*>(problem.value),
        static_cast<const Real*>(problem.locations), static_cast<const Weight*>(problem.weights), static_cast<T*>(data));
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return output;
}

std::tuple<Tensor, Tensor, Tensor> backward_cuda(
    Tensor output_gradient, Tensor value, Tensor locations, Tensor weights, std::vector<int64_t> shapes) {
  output_gradient = torch::stable::contiguous(output_gradient);
  value = torch::stable::contiguous(value);
  locations = aligned(torch::stable::contiguous(locations));
  weights = torch::stable::contiguous(weights);
  const Problem problem = problem_of(value, locations, weights, shapes);
  check_output_gradient(output_gradient, value, problem);
  const torch::stable::accelerator::DeviceGuard guard(value.get_device_index());
  // Summed in single precision at least, and rounded once.
  Tensor sums = torch::stable::new_zeros(value, value.sizes(), locations.scalar_type());
  Tensor locations_gradient = torch::stable::empty_like(locations);
  Tensor weights_gradient = torch::stable::empty_like(weights);
  if (output_gradient.numel() == 0) {
    torch::stable::zero_(locations_gradient);
    torch::stable::zero_(weights_gradient);
  } else {
    const Gradients gradients{output_gradient.const_data_ptr(), sums.mutable_data_ptr(),
                              locations_gradient.mutable_data_ptr(), weights_gradient.mutable_data_ptr()};
    with_types(problem, [&](auto example, auto weight, auto real) {
      using T = decltype(example);
      using Weight = decltype(weight);
      using Real = decltype(real);
      const Launch launch = launch_of(problem, Kernels<T, Weight, Real>::pack, {problem.value, gradients.output});
      const auto kernel = Kernels<T, Weight, Real>::backward(launch);
      kernel<<<dim3(launch.blocks, launch.images), kThreads, 0, current_stream(value)>>>(
          shape_of(problem), launch.lanes, static_cast<const T*>(gradients.output), static_cast<const T*>(problem.value),
          static_cast<const Real*>(problem.locations), static_cast<const Weight*>(problem.weights),
          static_cast<Real*>(gradients.value), static_cast<Real*>(gradients.locations),
          static_cast<Weight*>(gradients.weights));
      STD_CUDA_KERNEL_LAUNCH_CHECK();
    });
  }
  if (value.scalar_type() == sums.scalar_type()) return {sums, locations_gradient, weights_gradient};
  Tensor value_gradient = torch::stable::empty_like(value);
  torch::stable::copy_(value_gradient, sums);
  return {value_gradient, locations_gradient, weights_gradient};
}

}  // namespace
}  // namespace segue

STABLE_TORCH_LIBRARY_IMPL(segue, CUDA, library) {
  library.impl("ms_deform_attn", TORCH_BOX(&segue::forward_cuda));
  library.impl("ms_deform_attn_backward", TORCH_BOX(&segue::backward_cuda));
}
