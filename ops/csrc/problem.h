// Sizes and pointers of one call, as the kernels see them: contiguous, checked, no torch type.
#pragma once

#include <cstdint>

namespace segue {

enum class Element : int { float32, float64, bfloat16, float16 };

struct Problem {
  int64_t batch, positions, heads, channels, queries, levels, points;
  const int64_t* shapes;  // height and width of each level, alternating
  Element value_type;     // of value, output and their gradients
  Element weight_type;    // of attention weights and their gradient
  const void* value;      // B, S, H, D
  const void* locations;  // B, Lq, H, L, P, 2: float64 where value is, else float32
  const void* weights;    // B, Lq, H, L, P
};

struct Gradients {
  const void* output;  // B, Lq, H, D, given
  void* value;         // like value, to fill
  void* locations;     // like locations, to fill
  void* weights;       // like weights, to fill
};

}  // namespace segue
