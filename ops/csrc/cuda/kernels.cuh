// Forward and backward for graphics cards.
//
// One head of one query is the work of a group: 4 to 32 neighbouring threads of a warp that share a row of channels, 16
// bytes each. Where a sample falls is the same for all of them, so it is worked out once per group: four points of a level at
// a time, one by each of the group's first four threads, handed to the others through shared memory. Blocks in x cover an
// image, blocks in y the batch. Nothing here is specific to CUDA but the names of its built-ins, so that a test can run these
// very functions on the processor.
#pragma once

#include <cstring>
#include <type_traits>

#include "../geometry.h"

namespace segue {
namespace {

constexpr int kMostLevels = 16;
constexpr int kWarp = 32;
constexpr int kThreads = 256;  // of a block
constexpr int kPoints = 4;     // treated together
constexpr int kLeastLanes = kPoints;
constexpr int kMostGroups = kThreads / kLeastLanes;
// Blocks that a multiprocessor has to hold. This leaves 64 and 80 registers to a thread: without it the compiler keeps fewer loads
// under way; with more blocks registers go to memory.
constexpr int kForwardBlocks = 4;
constexpr int kBackwardBlocks = 3;

// `make gpu-check` builds the library once without each of these measures, to show what they bring.
#ifdef SEGUE_WITHOUT_SHARED_FOOTPRINTS
constexpr bool kSharedFootprints = false;
#else
constexpr bool kSharedFootprints = true;
#endif
#ifdef SEGUE_WITHOUT_FOUR_POINTS
constexpr bool kFourPoints = false;
#else
constexpr bool kFourPoints = true;
#endif
#ifdef SEGUE_WITHOUT_WIDE_ACCESS
constexpr bool kWideAccess = false;
#else
constexpr bool kWideAccess = true;
#endif

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

// The four neighbours of a sample: row (negative outside the level) and what each counts for, weight included.
template <class Real>
struct Corners {
  Pack<int32_t, 4> rows;
  Pack<Real, 4> coefficients;
  Real right, down;
};

// Points before groups: the groups of a warp read the same point at once, and find it in different banks.
template <class Real>
struct Tile {
  Pack<int32_t, 4> rows[kPoints][kMostGroups];
  Pack<Real, 4> coefficients[kPoints][kMostGroups];
};

// The place of a thread. Threads past the end stay, because whole warps exchange values, and redo the first group's work.
struct Member {
  int32_t lane, slot;  // within the group; of the group in the tile
  bool inside;         // not past the end
  int32_t head;
  int64_t image, query_head;
};

__device__ __forceinline__ Member member_of(const Shape& shape, int32_t lanes) {
  const int32_t thread = blockIdx.x * blockDim.x + threadIdx.x;
  const int32_t found = thread / lanes;
  Member member;
  member.lane = thread & (lanes - 1);
  member.slot = threadIdx.x / lanes;
  member.inside = found < shape.queries * shape.heads;
  const int32_t group = member.inside ? found : 0;
  member.head = group % shape.heads;
  member.image = blockIdx.y;
  member.query_head = member.image * shape.queries * shape.heads + group;
  return member;
}

template <class Real>
__device__ __forceinline__ Corners<Real> corners_of(const Shape& shape, int level, Point<Real> at, Real weight) {
  const int32_t height = shape.height[level], width = shape.width[level];
  const Footprint<Real> found = footprint<Real>(
      at.x, at.y, static_cast<Real>(width), static_cast<Real>(height), width, height, shape.first[level], -1);
  const Real below = weight * found.down, above = weight - below;
  const Real below_right = below * found.right, above_right = above * found.right;
  return {{found.top_left, found.top_right, found.bottom_left, found.bottom_right},
          {above - above_right, above_right, below - below_right, below_right},
          found.right, found.down};
}

// base + row · stride in one instruction; the compiler would widen both factors first, which takes four.
__device__ __forceinline__ int64_t byte_of_row(int32_t row, int32_t stride, int64_t base) {
#ifdef __CUDACC__
  int64_t result;
  asm("mad.wide.s32 %0, %1, %2, %3;" : "=l"(result) : "r"(row), "r"(stride), "l"(base));
  return result;
#else
  return base + static_cast<int64_t>(row) * stride;
#endif
}

// `count` numbers of a row, `base` bytes after its beginning. Zeros outside the level, which a coefficient of NaN still turns
// into NaN; some row is read all the same, so that no load waits for a condition. Words, because half-precision numbers would be
// chosen one by one.
template <class T, int count>
__device__ __forceinline__ Pack<T, count> row_or_zeros(const T* value, int32_t row, int32_t stride, int64_t base) {
  using Word = std::conditional_t<sizeof(T) * count % 4 == 0, uint32_t, uint16_t>;
  constexpr int words = static_cast<int>(sizeof(T) * count / sizeof(Word));
  const char* const bytes = reinterpret_cast<const char*>(value) + byte_of_row(row < 0 ? 0 : row, stride, base);
  Pack<Word, words> found = *reinterpret_cast<const Pack<Word, words>*>(bytes);
#pragma unroll
  for (int i = 0; i < words; ++i) found.at[i] = row < 0 ? Word(0) : found.at[i];
  Pack<T, count> pack;
  std::memcpy(static_cast<void*>(&pack), &found, sizeof(pack));
  return pack;
}

template <class Real, int count>
__device__ __forceinline__ void add_atomically(Real* to, const Real (&terms)[count]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  constexpr bool in_fours = kWideAccess && sizeof(Real) == 4 && count % 4 == 0;
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

// Sums the products of each point and corner over the threads of a group; `own` receives the sums of point lane % 4. Each of two
// partners hands over the points that the other goes on with, so three exchanges bring four points together, not eight.
template <class Real>
__device__ __forceinline__ void sum_over_group(const Real (&products)[kPoints][4], int32_t lanes, Real (&own)[4]) {
  const bool second_half = threadIdx.x & 2, odd = threadIdx.x & 1;
#pragma unroll
  for (int corner = 0; corner < 4; ++corner) {
    Real kept[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const Real low = products[i][corner], high = products[i + 2][corner];
      kept[i] = (second_half ? high : low) + __shfl_xor_sync(0xffffffffu, second_half ? low : high, 2);
    }
    own[corner] = (odd ? kept[1] : kept[0]) + __shfl_xor_sync(0xffffffffu, odd ? kept[0] : kept[1], 1);
  }
  for (int32_t other = kPoints; other < lanes; other *= 2) {
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) own[corner] += __shfl_xor_sync(0xffffffffu, own[corner], other);
  }
}

// Works out the corners of up to four points from `sample` on, one per thread, and hands them to the group, once all have read
// the last ones. Returns those of point `lane`, with location and weight.
template <class Real, class Weight>
__device__ __forceinline__ Corners<Real> share_corners(
    const Shape& shape, const Member& member, int level, int32_t live, int64_t sample, const Real* locations,
    const Weight* weights, Tile<Real>& tile, Point<Real>& at, Real& weight) {
  Corners<Real> mine{};
  if (member.lane < live) {
    at = reinterpret_cast<const Point<Real>*>(locations)[sample + member.lane];
    weight = static_cast<Real>(weights[sample + member.lane]);
    mine = corners_of(shape, level, at, weight);
  }
  if constexpr (kSharedFootprints) {
    __syncwarp();
    if (member.lane < live) {
      tile.rows[member.lane][member.slot] = mine.rows;
      tile.coefficients[member.lane][member.slot] = mine.coefficients;
    }
    __syncwarp();
  }
  return mine;
}

template <class Real, class Weight>
__device__ __forceinline__ Corners<Real> shared_corners(
    const Shape& shape, const Member& member, int level, int point, int64_t sample, const Real* locations,
    const Weight* weights, const Tile<Real>& tile) {
  if constexpr (kSharedFootprints)
    return {tile.rows[point][member.slot], tile.coefficients[point][member.slot], Real(0), Real(0)};
  else
    return corners_of(shape, level, reinterpret_cast<const Point<Real>*>(locations)[sample + point],
                      static_cast<Real>(weights[sample + point]));
}

// `lanes`, a power of two, is the number of threads of a group, and `count` how many channels a thread moves at once. `single`
// says that a group holds a whole row; it goes over a longer one several times. `fours` says that the points come in whole fours.
template <class T, class Weight, class Real, int count, bool single, bool fours>
__global__ void __launch_bounds__(kThreads, kForwardBlocks) forward_kernel(
    const Shape shape, const int32_t lanes, const T* __restrict__ value, const Real* __restrict__ locations,
    const Weight* __restrict__ weights, T* __restrict__ output) {
  __shared__ Tile<Real> tile;
  const Member member = member_of(shape, lanes);
  const int32_t width = shape.heads * shape.channels, stride = width * static_cast<int32_t>(sizeof(T));
  const int64_t head = member.image * shape.positions * width + member.head * shape.channels;
  int32_t start = 0;
  do {
    const int32_t channel = start + member.lane * count;
    const bool holds = channel < shape.channels;
    const int64_t base = (head + (holds ? channel : 0)) * sizeof(T);
    int64_t sample = member.query_head * shape.levels * shape.points;
    Real sum[count] = {};
    for (int level = 0; level < shape.levels; ++level) {
      for (int32_t done = 0; done < shape.points; done += kPoints) {
        const int32_t live = fours || shape.points - done > kPoints ? kPoints : shape.points - done;
        Point<Real> at{};
        Real weight{};
        share_corners(shape, member, level, live, sample, locations, weights, tile, at, weight);
#pragma unroll
        for (int point = 0; point < kPoints; ++point) {
          if (!fours && point >= live) break;
          const Corners<Real> corners = shared_corners(shape, member, level, point, sample, locations, weights, tile);
          Pack<T, count> packs[4];
#pragma unroll
          for (int corner = 0; corner < 4; ++corner)
            packs[corner] = row_or_zeros<T, count>(value, corners.rows.at[corner], stride, base);
#pragma unroll
          for (int corner = 0; corner < 4; ++corner) {
#pragma unroll
            for (int i = 0; i < count; ++i)
              sum[i] += corners.coefficients.at[corner] * static_cast<Real>(packs[corner].at[i]);
          }
        }
        sample += live;
      }
    }
    if (member.inside && holds) {
      Pack<T, count> result;
#pragma unroll
      for (int i = 0; i < count; ++i) result.at[i] = static_cast<T>(sum[i]);
      *reinterpret_cast<Pack<T, count>*>(output + member.query_head * shape.channels + channel) = result;
    }
    start += lanes * count;
  } while (!single && start < shape.channels);
}

// The template's arguments are those of the forward pass. Value gradients are summed in Real, in no fixed order. The gradients of four
// points leave the group together, as neighbouring numbers from neighbouring threads: one sector of 32 bytes for locations.
template <class T, class Weight, class Real, int count, bool single, bool fours>
__global__ void __launch_bounds__(kThreads, kBackwardBlocks) backward_kernel(
    const Shape shape, const int32_t lanes, const T* __restrict__ output_gradient, const T* __restrict__ value,
    const Real* __restrict__ locations, const Weight* __restrict__ weights, Real* __restrict__ value_gradient,
    Real* __restrict__ locations_gradient, Weight* __restrict__ weights_gradient) {
  __shared__ Tile<Real> tile;
  const Member member = member_of(shape, lanes);
  const int32_t width = shape.heads * shape.channels, stride = width * static_cast<int32_t>(sizeof(T));
  const int64_t base = member.image * shape.positions * width + member.head * shape.channels;
  const T* const gradients = output_gradient + member.query_head * shape.channels;
  const int32_t first_channel = member.lane * count, end = member.inside ? shape.channels : 0, step = lanes * count;
  int64_t sample = member.query_head * shape.levels * shape.points;

  Real gradient[count] = {};
  if (single && first_channel < end) {
    const Pack<T, count> pack = *reinterpret_cast<const Pack<T, count>*>(gradients + first_channel);
#pragma unroll
    for (int i = 0; i < count; ++i) gradient[i] = static_cast<Real>(pack.at[i]);
  }
  for (int level = 0; level < shape.levels; ++level) {
    for (int32_t done = 0; done < shape.points; done += kPoints) {
      const int32_t live = fours || shape.points - done > kPoints ? kPoints : shape.points - done;
      Point<Real> at{};
      Real weight{};
      const Corners<Real> mine =
          share_corners(shape, member, level, live, sample, locations, weights, tile, at, weight);
      Real products[kPoints][4] = {};
#pragma unroll
      for (int point = 0; point < kPoints; ++point) {
        if (!fours && point >= live) break;
        const Corners<Real> corners = shared_corners(shape, member, level, point, sample, locations, weights, tile);
        for (int32_t channel = first_channel; channel < end; channel += step) {
          if (!single) {
            const Pack<T, count> pack = *reinterpret_cast<const Pack<T, count>*>(gradients + channel);
#pragma unroll
            for (int i = 0; i < count; ++i) gradient[i] = static_cast<Real>(pack.at[i]);
          }
          Pack<T, count> packs[4];
#pragma unroll
          for (int corner = 0; corner < 4; ++corner)
            packs[corner] = row_or_zeros<T, count>(value, corners.rows.at[corner], stride, (base + channel) * sizeof(T));
#pragma unroll
          for (int corner = 0; corner < 4; ++corner) {
            const int32_t row = corners.rows.at[corner];
            if (row < 0) continue;
            Real terms[count];
#pragma unroll
            for (int i = 0; i < count; ++i) {
              products[point][corner] += gradient[i] * static_cast<Real>(packs[corner].at[i]);
              terms[i] = corners.coefficients.at[corner] * gradient[i];
            }
            const int64_t place = byte_of_row(row, width * static_cast<int32_t>(sizeof(Real)), (base + channel) * sizeof(Real));
            add_atomically(reinterpret_cast<Real*>(reinterpret_cast<char*>(value_gradient) + place), terms);
          }
          if (single) break;
        }
      }
      Real own[4];
      sum_over_group(products, lanes, own);
      if (member.inside && member.lane < live) {
        const Real top = own[0] + mine.right * (own[1] - own[0]), bottom = own[2] + mine.right * (own[3] - own[2]);
        const Real along_x = (1 - mine.down) * (own[1] - own[0]) + mine.down * (own[3] - own[2]);
        const int64_t place = sample + member.lane;
        reinterpret_cast<Point<Real>*>(locations_gradient)[place] = {
            within_reach(at.x) ? weight * static_cast<Real>(shape.width[level]) * along_x : Real(0),
            within_reach(at.y) ? weight * static_cast<Real>(shape.height[level]) * (bottom - top) : Real(0)};
        weights_gradient[place] = static_cast<Weight>(top + mine.down * (bottom - top));
      }
      sample += live;
    }
  }
}

}  // namespace
}  // namespace segue
