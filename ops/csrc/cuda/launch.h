// Which kernel a call needs, how many threads, and how they share the channels. Plain C++, tested on the processor.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <stdexcept>
#include <string>

#include "../problem.h"
#include "kernels.cuh"

namespace segue {
namespace {

struct Launch {
  uint32_t blocks, images;
  int32_t lanes;  // threads that share a row
  bool packed;    // rows move 16 bytes at a time
  bool single;    // the threads hold a whole row at once
  bool fours;     // the points come in whole fours
};

inline void require(bool condition, const char* message) {
  if (!condition) throw std::runtime_error(std::string("ms_deform_attn: ") + message);
}

// The whole problem as 32-bit numbers, for one image at a time.
inline Shape shape_of(const Problem& problem) {
  require(problem.levels <= kMostLevels, "the CUDA kernels take at most 16 levels");
  Shape shape{};
  shape.positions = static_cast<int32_t>(problem.positions);
  shape.heads = static_cast<int32_t>(problem.heads);
  shape.channels = static_cast<int32_t>(problem.channels);
  shape.queries = static_cast<int32_t>(problem.queries);
  shape.levels = static_cast<int32_t>(problem.levels);
  shape.points = static_cast<int32_t>(problem.points);
  int32_t first = 0;
  for (int64_t level = 0; level < problem.levels; ++level) {
    shape.height[level] = static_cast<int32_t>(problem.shapes[2 * level]);
    shape.width[level] = static_cast<int32_t>(problem.shapes[2 * level + 1]);
    shape.first[level] = first;
    first += shape.height[level] * shape.width[level];
  }
  return shape;
}

// Whether every row can be moved `count` numbers (16 bytes) at a time.
inline bool whole_packs(const Problem& problem, int64_t count, std::initializer_list<const void*> pointers) {
  if (problem.channels % count != 0) return false;
  for (const void* pointer : pointers)
    if (reinterpret_cast<uintptr_t>(pointer) % 16 != 0) return false;
  return true;
}

// `pack` is how many channels 16 bytes hold, `pointers` whatever is moved by rows.
inline Launch launch_of(
    const Problem& problem, int64_t pack, std::initializer_list<const void*> pointers, int32_t threads = kThreads) {
  require(problem.batch <= 65535, "the CUDA kernels take at most 65535 images at once");
  const int64_t most = std::numeric_limits<int32_t>::max() - threads;
  require(problem.queries < most && problem.heads < most && problem.channels < most && problem.points < most,
          "a size does not fit 32 bits");
  require(problem.heads * problem.channels <= std::numeric_limits<int32_t>::max() / 8, "a position has more than 2^28 channels");
  const bool packed = kWideAccess && whole_packs(problem, pack, pointers);
  const int64_t packs = packed ? problem.channels / pack : problem.channels;
  int32_t lanes = kLeastLanes;
  while (lanes < packs && lanes < kWarp) lanes *= 2;
  const double total = static_cast<double>(problem.queries) * problem.heads * lanes;
  require(total < static_cast<double>(most), "more than 2^31 threads for one image: queries, heads or channels are too many");
  const int64_t blocks = (problem.queries * problem.heads * lanes + threads - 1) / threads;
  return {static_cast<uint32_t>(blocks), static_cast<uint32_t>(problem.batch), lanes, packed,
          packs <= lanes,                kFourPoints && problem.points % kPoints == 0};
}

// The kernels for values of type T. Odd sizes share the slowest one: they are there to be right, not fast.
template <class T, class Weight, class Real>
struct Kernels {
  static constexpr int pack = 16 / sizeof(T);
  using Forward = void (*)(Shape, int32_t, const T*, const Real*, const Weight*, T*);
  using Backward =
      void (*)(Shape, int32_t, const T*, const T*, const Real*, const Weight*, Real*, Real*, Weight*);

  static Forward forward(const Launch& launch) {
    if (!launch.packed) return forward_kernel<T, Weight, Real, 1, false, false>;
    if (!launch.single) return forward_kernel<T, Weight, Real, pack, false, false>;
    return launch.fours ? forward_kernel<T, Weight, Real, pack, true, true>
                        : forward_kernel<T, Weight, Real, pack, true, false>;
  }

  static Backward backward(const Launch& launch) {
    if (!launch.packed) return backward_kernel<T, Weight, Real, 1, false, false>;
    if (!launch.single) return backward_kernel<T, Weight, Real, pack, false, false>;
    return launch.fours ? backward_kernel<T, Weight, Real, pack, true, true>
                        : backward_kernel<T, Weight, Real, pack, true, false>;
  }
};

}  // namespace
}  // namespace segue
