// How many threads a call needs and how they share the channels. Plain C++, tested on the processor.
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
  bool single;    // they hold all its channels at once
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

inline Launch launch_of(const Problem& problem, int32_t lanes, bool single, int32_t threads) {
  require(problem.batch <= 65535, "the CUDA kernels take at most 65535 images at once");
  const int64_t most = std::numeric_limits<int32_t>::max() - threads;
  require(problem.queries < most && problem.heads < most && problem.channels < most && problem.points < most,
          "a size does not fit 32 bits");
  const double total = static_cast<double>(problem.queries) * problem.heads * lanes;
  require(total < static_cast<double>(most), "more than 2^31 threads for one image: queries, heads or channels are too many");
  const int64_t needed = problem.queries * problem.heads * lanes;
  return {static_cast<uint32_t>((needed + threads - 1) / threads), static_cast<uint32_t>(problem.batch), lanes, single};
}

inline Launch forward_launch(const Problem& problem, int32_t count, int32_t threads) {
  require(problem.channels < std::numeric_limits<int32_t>::max(), "a size does not fit 32 bits");
  return launch_of(problem, static_cast<int32_t>((problem.channels + count - 1) / count), true, threads);
}

// A power of two, for the exchange between the threads that share a row, and at most a warp.
inline Launch backward_launch(const Problem& problem, int32_t count, int32_t threads) {
  const int64_t packs = (problem.channels + count - 1) / count;
  int32_t lanes = 1;
  while (lanes < packs && lanes < kWarp) lanes *= 2;
  return launch_of(problem, lanes, packs <= lanes, threads);
}

// Whether every row can be moved `count` numbers (16 bytes) at a time.
inline bool whole_packs(const Problem& problem, int64_t count, std::initializer_list<const void*> pointers) {
  if (problem.channels % count != 0) return false;
  for (const void* pointer : pointers)
    if (reinterpret_cast<uintptr_t>(pointer) % 16 != 0) return false;
  return true;
}

}  // namespace
}  // namespace segue
