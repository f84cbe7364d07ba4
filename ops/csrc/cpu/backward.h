// Backward: a unit is one level of one head of one image.
//
// A unit owns the gradients of that level's values and of the locations and weights that sample it. It works on packed
// copies: in the tensors the rows of one head lie H·D numbers apart, which a cache maps to a fraction of its sets. Packed
// rows are padded with zeros to whole vectors, and one more row, of zeros, stands for everything outside the level.
#pragma once

#include "common.h"

namespace segue {
namespace {

constexpr int64_t kQueries = 32;  // handled together: enough samples for the vector loops, few enough for the first cache

template <class Real>
struct Unit {
  Unit(const Problem& problem, int64_t index)
      : level_index(index % problem.levels),
        head(index / problem.levels % problem.heads),
        image(index / problem.levels / problem.heads),
        level(level_of<Real>(problem, level_index)),
        rows(static_cast<int64_t>(level.columns) * level.lines) {}

  // Of the first of this unit's samples of a query, in the list of all samples.
  int64_t sample(const Problem& problem, int64_t query) const {
    return (((image * problem.queries + query) * problem.heads + head) * problem.levels + level_index) * problem.points;
  }
  // Of a query's gradient of the output, and of a row of this level's values.
  int64_t output(const Problem& problem, int64_t query) const {
    return ((image * problem.queries + query) * problem.heads + head) * problem.channels;
  }
  int64_t row(const Problem& problem, int64_t index) const {
    return ((image * problem.positions + level.first + index) * problem.heads + head) * problem.channels;
  }

  int64_t level_index, head, image;
  Level<Real> level;
  int64_t rows;
};

// The samples of some queries in one unit.
template <class Real>
struct UnitSamples {
  explicit UnitSamples(int64_t capacity)
      : x(capacity), y(capacity), weight(capacity), right(capacity), down(capacity), rows(4 * capacity),
        products(4 * capacity + Lanes<Real>::count) {}

  void locate(const Level<Real>& level, int64_t count) {
    const int32_t nothing = level.columns * level.lines;
    const Real *__restrict x_ = x.get(), *__restrict y_ = y.get();
    Real *__restrict right_ = right.get(), *__restrict down_ = down.get();
    int32_t* __restrict rows_ = rows.get();
    SEGUE_INDEPENDENT
    for (int64_t i = 0; i < count; ++i) {
      const Footprint<Real> at =
          footprint<Real>(x_[i], y_[i], level.width, level.height, level.columns, level.lines, 0, nothing);
      rows_[4 * i] = at.top_left;
      rows_[4 * i + 1] = at.top_right;
      rows_[4 * i + 2] = at.bottom_left;
      rows_[4 * i + 3] = at.bottom_right;
      right_[i] = at.right;
      down_[i] = at.down;
    }
  }

  // From the products of the output's gradient with the four neighbours: the gradients of weight and location, which
  // take the places of weight, x and y. Coordinates out of reach get none, whatever the weight: 0 · NaN would be NaN.
  void differentiate(const Level<Real>& level, int64_t count) {
    const Real* __restrict product = products.get();
    Real *__restrict x_ = x.get(), *__restrict y_ = y.get(), *__restrict weight_ = weight.get();
    const Real *__restrict right_ = right.get(), *__restrict down_ = down.get();
    SEGUE_INDEPENDENT
    for (int64_t i = 0; i < count; ++i) {
      const Real top_left = product[4 * i], top_right = product[4 * i + 1];
      const Real bottom_left = product[4 * i + 2], bottom_right = product[4 * i + 3];
      const Real r = right_[i], d = down_[i], w = weight_[i];
      const Real top = top_left + r * (top_right - top_left);
      const Real bottom = bottom_left + r * (bottom_right - bottom_left);
      weight_[i] = top + d * (bottom - top);
      const Real for_y = w * level.height * (bottom - top);
      const Real for_x = w * level.width * ((1 - d) * (top_right - top_left) + d * (bottom_right - bottom_left));
      y_[i] = within_reach(y_[i]) ? for_y : Real(0);
      x_[i] = within_reach(x_[i]) ? for_x : Real(0);
    }
  }

  Buffer<Real> x, y, weight, right, down;
  Buffer<int32_t> rows;
  Buffer<Real> products;
};

template <class T, class Real>
void unpack_row(const Real* from, T* to, int64_t channels) {
  constexpr int lanes = Lanes<Real>::count;
  int64_t c = 0;
  for (; c + lanes <= channels; c += lanes) store(to + c, load(from + c));
  if (c < channels) store_part<Real>(to + c, load(from + c), static_cast<int>(channels - c));
}

// Products of the output's gradient with the four neighbours, lane by lane and not yet summed, and the scattering of the
// values' gradient. `fixed` is the number of vectors a row where it is known to the compiler, else 0.
template <int fixed, class Real>
SEGUE_INLINE void scatter(const Real* output_gradient, const Real* value, Real* value_gradient, const int32_t* rows,
                          Real weight, Real right, Real down, int64_t padded, Vector<Real>* products) {
  constexpr int lanes = Lanes<Real>::count;
  const int vectors = fixed ? fixed : static_cast<int>(padded / lanes);
  const int64_t stride = fixed ? fixed * lanes : padded;
  const Real below = weight * down, above = weight - below;
  const Real coefficients[4] = {above - above * right, above * right, below - below * right, below * right};
#pragma GCC unroll 4
  for (int corner = 0; corner < 4; ++corner) {
    const int64_t offset = rows[corner] * stride;
    Vector<Real> product = {};
#pragma GCC unroll 4
    for (int k = 0; k < vectors; ++k) {
      const Vector<Real> gradient = load(output_gradient + k * lanes);
      product += gradient * load(value + offset + k * lanes);
      Real* to = value_gradient + offset + k * lanes;
      store(to, load(to) + coefficients[corner] * gradient);
    }
    products[corner] = product;
  }
}

template <int fixed, class Real>
void accumulate(UnitSamples<Real>& samples, int64_t count, int64_t points, const Real* output_gradients, const Real* value,
                Real* value_gradient, int64_t padded) {
  constexpr int lanes = Lanes<Real>::count, together = lanes > 4 ? lanes / 4 : 1;  // samples whose products fill a vector
  int64_t query = 0, point = 0;
  for (int64_t begin = 0; begin < count; begin += together) {
    Vector<Real> products[4 * together] = {};
#pragma GCC unroll 4
    for (int i = 0; i < together; ++i) {
      const int64_t sample = begin + i;
      if (sample < count) {
        scatter<fixed>(output_gradients + query * padded, value, value_gradient, samples.rows.get() + 4 * sample,
                       samples.weight[sample], samples.right[sample], samples.down[sample], padded, products + 4 * i);
        if (++point == points) {
          point = 0;
          ++query;
        }
      }
    }
    for (int i = 0; i < 4 * together; i += lanes) store(samples.products.get() + 4 * begin + i, sums<Real>(products + i));
  }
}

template <class T, class Weight, class Real>
void backward_units(const Problem& problem, const Gradients& gradients, int64_t begin, int64_t end) {
  constexpr int lanes = Lanes<Real>::count;
  const int64_t channels = problem.channels, points = problem.points;
  const int64_t padded = (channels + lanes - 1) / lanes * lanes;
  int64_t most_rows = 0;
  for (int64_t index = begin; index < end && index < begin + problem.levels; ++index) {
    const int64_t rows = Unit<Real>(problem, index).rows;
    most_rows = rows > most_rows ? rows : most_rows;
  }
  Buffer<Real> value((most_rows + 1) * padded), value_gradient((most_rows + 1) * padded);
  Buffer<Real> output_gradients(kQueries * padded);
  UnitSamples<Real> samples(kQueries * points);

  for (int64_t index = begin; index < end; ++index) {
    const Unit<Real> unit(problem, index);
    for (int64_t row = 0; row < unit.rows; ++row)
      copy_row(static_cast<const T*>(problem.value) + unit.row(problem, row), value.get() + row * padded, channels, padded);
    __builtin_memset(value.get() + unit.rows * padded, 0, static_cast<size_t>(padded) * sizeof(Real));
    __builtin_memset(value_gradient.get(), 0, static_cast<size_t>((unit.rows + 1) * padded) * sizeof(Real));

    for (int64_t first = 0; first < problem.queries; first += kQueries) {
      const int64_t queries = problem.queries - first < kQueries ? problem.queries - first : kQueries;
      const int64_t count = queries * points;
      for (int64_t query = 0; query < queries; ++query) {
        const int64_t from = unit.sample(problem, first + query), to = query * points;
        for (int64_t point = 0; point < points; ++point) {
          samples.x[to + point] = static_cast<const Real*>(problem.locations)[2 * (from + point)];
          samples.y[to + point] = static_cast<const Real*>(problem.locations)[2 * (from + point) + 1];
          samples.weight[to + point] = static_cast<Real>(widen(static_cast<const Weight*>(problem.weights)[from + point]));
        }
        copy_row(static_cast<const T*>(gradients.output) + unit.output(problem, first + query),
                 output_gradients.get() + query * padded, channels, padded);
      }
      samples.locate(unit.level, count);
      const auto run = padded == lanes       ? accumulate<1, Real>
                       : padded == 2 * lanes ? accumulate<2, Real>
                       : padded == 4 * lanes ? accumulate<4, Real>
                                             : accumulate<0, Real>;
      run(samples, count, points, output_gradients.get(), value.get(), value_gradient.get(), padded);
      samples.differentiate(unit.level, count);
      for (int64_t query = 0; query < queries; ++query) {
        const int64_t to = unit.sample(problem, first + query), from = query * points;
        for (int64_t point = 0; point < points; ++point) {
          static_cast<Real*>(gradients.locations)[2 * (to + point)] = samples.x[from + point];
          static_cast<Real*>(gradients.locations)[2 * (to + point) + 1] = samples.y[from + point];
          static_cast<Weight*>(gradients.weights)[to + point] = narrow<Weight>(samples.weight[from + point]);
        }
      }
    }
    for (int64_t row = 0; row < unit.rows; ++row)
      unpack_row(value_gradient.get() + row * padded, static_cast<T*>(gradients.value) + unit.row(problem, row), channels);
  }
}

void backward(const Problem& problem, const Gradients& gradients, int64_t begin, int64_t end) {
  with_types(problem, [&](auto value, auto weight, auto real) {
    backward_units<decltype(value), decltype(weight), decltype(real)>(problem, gradients, begin, end);
  });
}

}  // namespace
}  // namespace segue
