// Runs the graphics card's kernels on the processor: a warp is 32 threads that meet whenever they exchange values.

#include <atomic>
#include <barrier>
#include <cstdint>
#include <thread>
#include <vector>

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#define __global__
#define __device__
#define __forceinline__ inline

struct Index {
  unsigned x = 0, y = 0;
};
struct float4 {
  float x, y, z, w;
};
float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static thread_local Index threadIdx, blockIdx;
static Index blockDim{32, 1};

static std::barrier<> meeting(32);
static double exchanged[32];

template <class Real>
Real __shfl_xor_sync(unsigned, Real mine, int other) {
  exchanged[threadIdx.x] = static_cast<double>(mine);  // exact for float and double
  meeting.arrive_and_wait();
  const Real theirs = static_cast<Real>(exchanged[threadIdx.x ^ other]);
  meeting.arrive_and_wait();
  return theirs;
}
template <class Real>
void atomicAdd(Real* to, Real term) {
  std::atomic_ref<Real>(*to).fetch_add(term);
}
void atomicAdd(float4* to, float4 terms) {
  atomicAdd(&to->x, terms.x);
  atomicAdd(&to->y, terms.y);
  atomicAdd(&to->z, terms.z);
  atomicAdd(&to->w, terms.w);
}

#define __CUDA_ARCH__ 900  // the newest card's form of the code; double precision and odd sizes take the older one
#include "cuda/launch.h"

namespace segue {
namespace {

template <class Kernel>
void run_blocks(const Launch& launch, const Kernel& kernel) {
  std::vector<std::thread> warp;
  for (unsigned thread = 0; thread < 32; ++thread)
    warp.emplace_back([&, thread] {
      threadIdx = {thread, 0};
      for (unsigned y = 0; y < launch.images; ++y)
        for (unsigned x = 0; x < launch.blocks; ++x) {
          blockIdx = {x, y};
          kernel();
          meeting.arrive_and_wait();
        }
    });
  for (std::thread& thread : warp) thread.join();
}

template <class T, class Weight, class Real>
void run(const Problem& problem, bool may_pack, void* output, const Gradients& gradients) {
  constexpr int count = 16 / sizeof(T);
  const Shape shape = shape_of(problem);
  const bool packed = may_pack && whole_packs(problem, count, {problem.value, output, gradients.output});
  const T* value = static_cast<const T*>(problem.value);
  const Real* locations = static_cast<const Real*>(problem.locations);
  const Weight* weights = static_cast<const Weight*>(problem.weights);
  const Launch forward = forward_launch(problem, packed ? count : 1, 32);
  run_blocks(forward, [&] {
    if (packed)
      forward_kernel<T, Weight, Real, count>(shape, value, locations, weights, static_cast<T*>(output));
    else
      forward_kernel<T, Weight, Real, 1>(shape, value, locations, weights, static_cast<T*>(output));
  });
  const Launch backward = backward_launch(problem, packed ? count : 1, 32);
  const auto differentiate = [&](auto kernel) {
    kernel(shape, backward.lanes, static_cast<const T*>(gradients.output), value, locations, weights,
           static_cast<Real*>(gradients.value), static_cast<Real*>(gradients.locations),
           static_cast<Weight*>(gradients.weights));
  };
  run_blocks(backward, [&] {
    if (!packed)
      differentiate(backward_kernel<T, Weight, Real, 1, false>);
    else if (backward.single)
      differentiate(backward_kernel<T, Weight, Real, count, true>);
    else
      differentiate(backward_kernel<T, Weight, Real, count, false>);
  });
}

}  // namespace
}  // namespace segue

// Sizes: batch, positions, heads, channels, queries, levels, points. The value's gradient comes zeroed, in the type of sums.
extern "C" int run_on_cpu(int element, int may_pack, const int64_t* sizes, const int64_t* shapes, const void* value,
                          const void* locations, const void* weights, void* output, const void* output_gradient,
                          void* value_gradient, void* locations_gradient, void* weights_gradient) {
  using namespace segue;
  const Element type = static_cast<Element>(element);
  const Element wide = type == Element::float64 ? Element::float64 : Element::float32;
  const Problem problem{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6],
                        shapes,   type,     wide,     value,    locations, weights};
  const Gradients gradients{output_gradient, value_gradient, locations_gradient, weights_gradient};
  try {
    if (type == Element::float32) run<float, float, float>(problem, may_pack, output, gradients);
    if (type == Element::float64) run<double, double, double>(problem, may_pack, output, gradients);
    if (type == Element::bfloat16) run<c10::BFloat16, float, float>(problem, may_pack, output, gradients);
    if (type == Element::float16) run<c10::Half, float, float>(problem, may_pack, output, gradients);
  } catch (const std::exception&) {
    return 1;
  }
  return 0;
}
