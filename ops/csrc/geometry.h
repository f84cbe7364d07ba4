// Where a normalised location falls on a level: four pixels and how far the location lies between them.
//
// The only place that turns locations into indices; the processor's and the graphics card's kernels share it.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define SEGUE_INLINE __host__ __device__ __forceinline__
#else
#define SEGUE_INLINE inline __attribute__((always_inline))
#endif

namespace segue {
namespace {  // every file gets its own copy, compiled for its own instruction set

// Rows are positions in a list of pixels; a neighbour outside the level has the row `nothing`.
template <class Real>
struct Footprint {
  int32_t top_left, top_right, bottom_left, bottom_right;
  Real right, down;  // fractions of a pixel in [0, 1], away from the top left neighbour
};

// Fraction and pixel of one coordinate, clamped to just outside the level before it becomes an integer: no location,
// however large, infinite or not a number (which compares false and so takes the lower bound), can index out of bounds.
template <class Real>
SEGUE_INLINE int32_t pixel_of(Real location, Real size, Real& fraction) {
  Real pixel = location * size - Real(0.5);
  pixel = pixel > Real(-2) ? pixel : Real(-2);
  pixel = pixel < size + Real(1) ? pixel : size + Real(1);
  int32_t index = static_cast<int32_t>(pixel);
  index -= static_cast<Real>(index) > pixel ? 1 : 0;  // rounded towards zero until here
  fraction = pixel - static_cast<Real>(index);
  return index;
}

// Whether a coordinate may be near a level: beyond these bounds a sample is at least one pixel off a level of any size, and
// the formulation in PyTorch clamps the coordinate, which therefore has no gradient. False for what is not a number.
template <class Real>
SEGUE_INLINE bool within_reach(Real location) {
  return location >= Real(-1) && location <= Real(2);
}

// `first` is the row of the level's first pixel; sizes are given twice to spare the conversion.
template <class Real>
SEGUE_INLINE Footprint<Real> footprint(
    Real x, Real y, Real width, Real height, int32_t columns, int32_t lines, int32_t first, int32_t nothing) {
  Footprint<Real> result;
  const int32_t column = pixel_of(x, width, result.right);
  const int32_t line = pixel_of(y, height, result.down);
  // One comparison each for 0 <= i < n: negative numbers are huge when unsigned.
  const bool left = static_cast<uint32_t>(column) < static_cast<uint32_t>(columns);
  const bool right = static_cast<uint32_t>(column + 1) < static_cast<uint32_t>(columns);
  const bool top = static_cast<uint32_t>(line) < static_cast<uint32_t>(lines);
  const bool bottom = static_cast<uint32_t>(line + 1) < static_cast<uint32_t>(lines);
  // Unsigned, because the row of a pixel outside may overflow before it is thrown away.
  const uint32_t row = static_cast<uint32_t>(first) +
      static_cast<uint32_t>(line) * static_cast<uint32_t>(columns) + static_cast<uint32_t>(column);
  const uint32_t below = row + static_cast<uint32_t>(columns);
  result.top_left = top & left ? static_cast<int32_t>(row) : nothing;
  result.top_right = top & right ? static_cast<int32_t>(row + 1) : nothing;
  result.bottom_left = bottom & left ? static_cast<int32_t>(below) : nothing;
  result.bottom_right = bottom & right ? static_cast<int32_t>(below + 1) : nothing;
  return result;
}

}  // namespace
}  // namespace segue
