// What the forward and the backward kernel share: level sizes, scratch memory, the choice of element types.
#pragma once

#include <new>

#include "../geometry.h"
#include "../problem.h"
#include "vector.h"

namespace segue {
namespace {

// Scratch memory, aligned to cache lines. Not std::vector: its functions, compiled here for one instruction set, might be
// linked into code for every processor.
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t count)
      : data_(static_cast<T*>(::operator new(static_cast<size_t>(count > 0 ? count : 1) * sizeof(T), alignment))) {}
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { ::operator delete(data_, alignment); }
  T* get() const { return data_; }
  T& operator[](int64_t i) const { return data_[i]; }

 private:
  static constexpr std::align_val_t alignment{64};
  T* data_;
};

template <class Real>
struct Level {
  Real width, height;
  int32_t columns, lines, first;
};

template <class Real>
Level<Real> level_of(const Problem& problem, int64_t index) {
  int64_t first = 0;
  for (int64_t i = 0; i < index; ++i) first += problem.shapes[2 * i] * problem.shapes[2 * i + 1];
  const int64_t lines = problem.shapes[2 * index], columns = problem.shapes[2 * index + 1];
  return {static_cast<Real>(columns), static_cast<Real>(lines), static_cast<int32_t>(columns),
          static_cast<int32_t>(lines), static_cast<int32_t>(first)};
}

// Widens `count` numbers and fills up with zeros to `padded`, at most a vector more.
template <class T, class Real>
void copy_row(const T* from, Real* to, int64_t count, int64_t padded) {
  constexpr int lanes = Lanes<Real>::count;
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) store(to + i, load(from + i));
  if (i + lanes <= padded) {
    store(to + i, load_part<Real>(from + i, static_cast<int>(count - i)));
  } else {
    for (; i < count; ++i) to[i] = static_cast<Real>(widen(from[i]));
  }
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

}  // namespace
}  // namespace segue
