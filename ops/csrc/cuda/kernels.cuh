// Forward and backward for graphics cards.
//
// A row of D channels is shared by D / channels neighbouring threads, which load `channels` numbers (16 bytes) each; every
// such group of threads computes one head of one query. Blocks in x cover an image, blocks in y the batch. Nothing here is
// specific to CUDA but the names of its built-ins, so that a test can run these very functions on the processor.
#pragma once

#include "../geometry.h"

namespace segue {
namespace {

constexpr int kMostLevels = 16;
constexpr int kWarp = 32;

// What a launch needs; travels as a kernel argument, so that nothing is read from device memory to find it.
struct Shape {
  int32_t positions, heads, channels, queries, levels, points;
  int32_t height[kMostLevels], width[kMostLevels], first[kMostLevels];
};

template <class T, int count>
struct alignas(sizeof(T) * count) Pack {
  T at[count];
};

template <class Real>
struct alignas(2 * sizeof(Real)) Point {
  Real x, y;
};

template <class Real, int count>
__device__ __forceinline__ void add_atomically(Real* to, const Real (&terms)[count]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  constexpr bool in_fours = sizeof(Real) == 4 && count % 4 == 0;
#else
  constexpr bool in_fours = false;
#endif
  if constexpr (in_fours) {
#pragma unroll
    for (int i = 0; i < count; i += 4)
      atomicAdd(reinterpret_cast<float4*>(to + i), make_float4(terms[i], terms[i + 1], terms[i + 2], terms[i + 3]));
  } else {
#pragma unroll
    for (int i = 0; i < count; ++i) atomicAdd(to + i, terms[i]);
  }
}

template <class T, class Weight, class Real, int count>
__global__ void forward_kernel(
    const Shape shape, const T* __restrict__ value, const Real* __restrict__ locations,
    const Weight* __restrict__ weights, T* __restrict__ output) {
  const int32_t lanes = (shape.channels + count - 1) / count;
  const int32_t thread = blockIdx.x * blockDim.x + threadIdx.x;
  const int32_t group = thread / lanes;  // a query's head
  if (group >= shape.queries * shape.heads) return;
  const int32_t head = group % shape.heads;
  const int32_t channel = (thread - group * lanes) * count;
  const int64_t image = blockIdx.y;
  const int64_t row_stride = static_cast<int64_t>(shape.heads) * shape.channels;
  const T* base = value + image * shape.positions * row_stride + head * shape.channels + channel;
  const int64_t query_head = image * shape.queries * shape.heads + group;
  int64_t sample = query_head * shape.levels * shape.points;

  Real sum[count] = {};
  for (int level = 0; level < shape.levels; ++level) {
    const int32_t height = shape.height[level], width = shape.width[level], first = shape.first[level];
    for (int point = 0; point < shape.points; ++point, ++sample) {
      const Point<Real> at = reinterpret_cast<const Point<Real>*>(locations)[sample];
      const Real weight = static_cast<Real>(weights[sample]);
      const Footprint<Real> found = footprint<Real>(
          at.x, at.y, static_cast<Real>(width), static_cast<Real>(height), width, height, first, -1);
      const Real below = weight * found.down, above = weight - below;
      const Real below_right = below * found.right, above_right = above * found.right;
      const int32_t rows[4] = {found.top_left, found.top_right, found.bottom_left, found.bottom_right};
      const Real coefficients[4] = {above - above_right, above_right, below - below_right, below_right};
#pragma unroll
      for (int corner = 0; corner < 4; ++corner) {
        if (rows[corner] < 0) continue;
        const Pack<T, count> pack = *reinterpret_cast<const Pack<T, count>*>(base + rows[corner] * row_stride);
#pragma unroll
        for (int i = 0; i < count; ++i) sum[i] += coefficients[corner] * static_cast<Real>(pack.at[i]);
      }
      if ((rows[0] & rows[1] & rows[2] & rows[3]) < 0) {  // all outside: a zero, which a weight of NaN turns into NaN
#pragma unroll
        for (int i = 0; i < count; ++i) sum[i] += weight * Real(0);
      }
    }
  }
  Pack<T, count> result;
#pragma unroll
  for (int i = 0; i < count; ++i) result.at[i] = static_cast<T>(sum[i]);
  *reinterpret_cast<Pack<T, count>*>(output + query_head * shape.channels + channel) = result;
}

// `lanes`, a power of two up to a warp, is the number of threads of a group; where a row is longer than they hold at once,
// `single` is false and they go over it several times. Value gradients are summed in Real, in no fixed order.
template <class T, class Weight, class Real, int count, bool single>
__global__ void backward_kernel(
    const Shape shape, const int32_t lanes, const T* __restrict__ output_gradient, const T* __restrict__ value,
    const Real* __restrict__ locations, const Weight* __restrict__ weights, Real* __restrict__ value_gradient,
    Real* __restrict__ locations_gradient, Weight* __restrict__ weights_gradient) {
  const int32_t thread = blockIdx.x * blockDim.x + threadIdx.x;
  const int32_t lane = thread & (lanes - 1);
  const int32_t found_group = thread / lanes;
  // Threads past the end stay, because whole warps exchange sums, and work on nothing.
  const bool inside = found_group < shape.queries * shape.heads;
  const int32_t group = inside ? found_group : 0;
  const int32_t head = group % shape.heads;
  const int64_t image = blockIdx.y;
  const int64_t row_stride = static_cast<int64_t>(shape.heads) * shape.channels;
  const int64_t base = image * shape.positions * row_stride + head * shape.channels;
  const int64_t query_head = image * shape.queries * shape.heads + group;
  const T* const gradients = output_gradient + query_head * shape.channels;
  const int32_t first_channel = lane * count, end = inside ? shape.channels : 0, step = lanes * count;
  int64_t sample = query_head * shape.levels * shape.points;

  Real gradient[count] = {};
  if (single && first_channel < end) {
    const Pack<T, count> pack = *reinterpret_cast<const Pack<T, count>*>(gradients + first_channel);
#pragma unroll
    for (int i = 0; i < count; ++i) gradient[i] = static_cast<Real>(pack.at[i]);
  }
  for (int level = 0; level < shape.levels; ++level) {
    const int32_t height = shape.height[level], width = shape.width[level], first = shape.first[level];
    for (int point = 0; point < shape.points; ++point, ++sample) {
      const Point<Real> at = reinterpret_cast<const Point<Real>*>(locations)[sample];
      const Real weight = static_cast<Real>(weights[sample]);
      const Footprint<Real> found = footprint<Real>(
          at.x, at.y, static_cast<Real>(width), static_cast<Real>(height), width, height, first, -1);
      const Real below = weight * found.down, above = weight - below;
      const Real below_right = below * found.right, above_right = above * found.right;
      const int32_t rows[4] = {found.top_left, found.top_right, found.bottom_left, found.bottom_right};
      const Real coefficients[4] = {above - above_right, above_right, below - below_right, below_right};
      Real products[4] = {};
      for (int32_t channel = first_channel; channel < end; channel += step) {
        if (!single) {
          const Pack<T, count> pack = *reinterpret_cast<const Pack<T, count>*>(gradients + channel);
#pragma unroll
          for (int i = 0; i < count; ++i) gradient[i] = static_cast<Real>(pack.at[i]);
        }
#pragma unroll
        for (int corner = 0; corner < 4; ++corner) {
          if (rows[corner] < 0) continue;
          const int64_t offset = base + rows[corner] * row_stride + channel;
          const Pack<T, count> pack = *reinterpret_cast<const Pack<T, count>*>(value + offset);
          Real terms[count];
#pragma unroll
          for (int i = 0; i < count; ++i) {
            products[corner] += gradient[i] * static_cast<Real>(pack.at[i]);
            terms[i] = coefficients[corner] * gradient[i];
          }
          add_atomically(value_gradient + offset, terms);
        }
        if (single) break;
      }
      const Real top = products[0] + found.right * (products[1] - products[0]);
      const Real bottom = products[2] + found.right * (products[3] - products[2]);
      Real for_weight = top + found.down * (bottom - top);
      Real for_y = weight * static_cast<Real>(height) * (bottom - top);
      Real for_x = weight * static_cast<Real>(width) *
          ((1 - found.down) * (products[1] - products[0]) + found.down * (products[3] - products[2]));
      for (int32_t other = lanes / 2; other > 0; other /= 2) {
        for_weight += __shfl_xor_sync(0xffffffffu, for_weight, other);
        for_x += __shfl_xor_sync(0xffffffffu, for_x, other);
        for_y += __shfl_xor_sync(0xffffffffu, for_y, other);
      }
      if (inside && lane == 0) {
        reinterpret_cast<Point<Real>*>(locations_gradient)[sample] = {
            within_reach(at.x) ? for_x : Real(0), within_reach(at.y) ? for_y : Real(0)};
        weights_gradient[sample] = static_cast<Weight>(for_weight);
      }
    }
  }
}

}  // namespace
}  // namespace segue
