// Runs the graphics card's kernels on the processor, a warp at a time.
//
// The 32 threads of a warp take turns: each runs until it has to wait for the others, in an order that the caller chooses.
// Whoever relies on another thread without waiting for it is found out by one of the two orders, every time.

#include <cstdint>
#include <functional>
#include <stdexcept>
#include <vector>

#include <ucontext.h>

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#define __global__
#define __device__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(threads, blocks)

struct Index {
  unsigned x = 0, y = 0;
};
struct float4 {
  float x, y, z, w;
};
float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static Index threadIdx, blockIdx;
static const Index blockDim{32, 1};

class Warp {
 public:
  explicit Warp(bool descending) : descending_(descending) {
    for (std::vector<char>& stack : stacks_) stack.resize(1 << 17);
  }

  // Throws where some threads have ended while others still wait for them.
  void run(const std::function<void()>& kernel) {
    kernel_ = &kernel;
    current = this;
    for (int thread = 0; thread < 32; ++thread) {
      getcontext(&threads_[thread]);
      threads_[thread].uc_stack = {stacks_[thread].data(), 0, stacks_[thread].size()};
      threads_[thread].uc_link = &turns_;
      makecontext(&threads_[thread], start, 0);
      ended_[thread] = false;
    }
    int ended = 0;
    while (ended < 32) {
      ended = 0;
      for (int turn = 0; turn < 32; ++turn) {
        const int thread = descending_ ? 31 - turn : turn;
        threadIdx = {static_cast<unsigned>(thread), 0};
        swapcontext(&turns_, &threads_[thread]);
        ended += ended_[thread];
      }
      if (ended > 0 && ended < 32) throw std::runtime_error("the threads of a warp wait a different number of times");
    }
  }

  void wait() { swapcontext(&threads_[threadIdx.x], &turns_); }

  static Warp* current;
  double exchanged[32];

 private:
  static void start() {
    (*current->kernel_)();
    current->ended_[threadIdx.x] = true;
  }

  const bool descending_;
  const std::function<void()>* kernel_ = nullptr;
  ucontext_t turns_, threads_[32];
  std::vector<char> stacks_[32];
  bool ended_[32];
};
Warp* Warp::current = nullptr;

void __syncwarp() { Warp::current->wait(); }
template <class Real>
Real __shfl_xor_sync(unsigned, Real mine, int other) {
  Warp& warp = *Warp::current;
  warp.exchanged[threadIdx.x] = static_cast<double>(mine);  // exact for float and double
  warp.wait();
  const Real theirs = static_cast<Real>(warp.exchanged[threadIdx.x ^ other]);
  warp.wait();
  return theirs;
}
template <class Real>
void atomicAdd(Real* to, Real term) {
  *to += term;
}
static int64_t wide_additions = 0;
static bool misplaced = false;  // an exception could not leave a thread's own stack
void atomicAdd(float4* to, float4 terms) {
  misplaced |= reinterpret_cast<uintptr_t>(to) % 16 != 0;
  ++wide_additions;
  to->x += terms.x;
  to->y += terms.y;
  to->z += terms.z;
  to->w += terms.w;
}

#define __CUDA_ARCH__ 900  // the newest card's form of the code; double precision and odd sizes take the older one
#include "cuda/launch.h"

namespace segue {
namespace {

void run_blocks(const Launch& launch, bool descending, const std::function<void()>& kernel) {
  Warp warp(descending);
  for (unsigned y = 0; y < launch.images; ++y)
    for (unsigned x = 0; x < launch.blocks; ++x) {
      blockIdx = {x, y};
      warp.run(kernel);
    }
}

template <class T, class Weight, class Real>
void run(const Problem& problem, bool descending, void* output, const Gradients& gradients) {
  using Choice = Kernels<T, Weight, Real>;
  const Shape shape = shape_of(problem);
  const T* value = static_cast<const T*>(problem.value);
  const Real* locations = static_cast<const Real*>(problem.locations);
  const Weight* weights = static_cast<const Weight*>(problem.weights);
  const Launch forward = launch_of(problem, Choice::pack, {problem.value, output}, 32);
  run_blocks(forward, descending, [&] {
    Choice::forward(forward)(shape, forward.lanes, value, locations, weights, static_cast<T*>(output));
  });
  const Launch backward = launch_of(problem, Choice::pack, {problem.value, gradients.output}, 32);
  run_blocks(backward, descending, [&] {
    Choice::backward(backward)(
        shape, backward.lanes, static_cast<const T*>(gradients.output), value, locations, weights,
        static_cast<Real*>(gradients.value), static_cast<Real*>(gradients.locations),
        static_cast<Weight*>(gradients.weights));
  });
}

}  // namespace
}  // namespace segue

// Sizes: batch, positions, heads, channels, queries, levels, points. The value's gradient comes zeroed, in the type of sums.
// Returns how many additions of 16 bytes there were, or -1.
extern "C" int64_t run_on_cpu(int element, int narrow_weights, int descending, const int64_t* sizes, const int64_t* shapes,
                              const void* value, const void* locations, const void* weights, void* output,
                              const void* output_gradient, void* value_gradient, void* locations_gradient,
                              void* weights_gradient) {
  using namespace segue;
  using BFloat16 = c10::BFloat16;
  using Half = c10::Half;
  const Element type = static_cast<Element>(element);
  const Element wide = type == Element::float64 ? Element::float64 : Element::float32;
  const Problem problem{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4],
                        sizes[5], sizes[6], shapes,   type,     narrow_weights ? type : wide,
                        value,    locations, weights};
  const Gradients gradients{output_gradient, value_gradient, locations_gradient, weights_gradient};
  const auto with = [&](auto kernels) { kernels(problem, descending != 0, output, gradients); };
  wide_additions = 0;
  misplaced = false;
  try {
    if (type == Element::float32) with(run<float, float, float>);
    if (type == Element::float64) with(run<double, double, double>);
    if (type == Element::bfloat16) with(narrow_weights ? run<BFloat16, BFloat16, float> : run<BFloat16, float, float>);
    if (type == Element::float16) with(narrow_weights ? run<Half, Half, float> : run<Half, float, float>);
  } catch (const std::exception&) {
    return -1;
  }
  return misplaced ? -1 : wide_additions;
}
