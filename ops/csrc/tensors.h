// From torch tensors to a Problem: the checks that keep the kernels inside their memory.
//
// The Python function checks first and says more; these hold for whoever calls the operators directly.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <limits>
#include <tuple>
#include <vector>

#include "problem.h"

namespace segue {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline Element element_of(const Tensor& tensor, const char* name) {
  switch (tensor.scalar_type()) {
    case ScalarType::Float:
      return Element::float32;
    case ScalarType::Double:
      return Element::float64;
    case ScalarType::BFloat16:
      return Element::bfloat16;
    case ScalarType::Half:
      return Element::float16;
    default:
      STD_TORCH_CHECK(false, "ms_deform_attn: ", name, " must be float32, float64, bfloat16 or float16");
      return Element::float32;
  }
}

// The pointers are borrowed: tensors and shapes must outlive the problem, and be contiguous.
inline Problem problem_of(
    const Tensor& value, const Tensor& locations, const Tensor& weights, const std::vector<int64_t>& shapes) {
  STD_TORCH_CHECK(value.dim() == 4, "ms_deform_attn: value must be (B, S, H, D)");
  STD_TORCH_CHECK(
      locations.dim() == 6 && locations.size(5) == 2, "ms_deform_attn: sampling_locations must be (B, Lq, H, L, P, 2)");
  STD_TORCH_CHECK(weights.dim() == 5, "ms_deform_attn: attention_weights must be (B, Lq, H, L, P)");
  for (int64_t axis = 0; axis < 5; ++axis)
    STD_TORCH_CHECK(locations.size(axis) == weights.size(axis),
                    "ms_deform_attn: sampling_locations and attention_weights differ at axis ", axis);
  STD_TORCH_CHECK(value.size(0) == locations.size(0) && value.size(2) == locations.size(2),
                  "ms_deform_attn: value and sampling_locations differ in batch or heads");
  STD_TORCH_CHECK(shapes.size() % 2 == 0 && static_cast<int64_t>(shapes.size() / 2) == locations.size(3),
                  "ms_deform_attn: spatial_shapes must be height and width of each of the ", locations.size(3), " levels");
  STD_TORCH_CHECK(value.size(1) < std::numeric_limits<int32_t>::max(),
                  "ms_deform_attn: more than 2^31 - 2 positions in one image");
  int64_t area = 0;
  for (size_t i = 0; i < shapes.size(); i += 2) {
    STD_TORCH_CHECK(shapes[i] > 0 && shapes[i + 1] > 0 && shapes[i] <= value.size(1) && shapes[i + 1] <= value.size(1),
                    "ms_deform_attn: the levels of spatial_shapes do not fit ", value.size(1), " positions");
    area += shapes[i] * shapes[i + 1];
    if (area > value.size(1)) break;  // before many such levels overflow
  }
  STD_TORCH_CHECK(area == value.size(1), "ms_deform_attn: the levels have ", area, " pixels together, value has ",
                  value.size(1), " positions");
  const Element value_type = element_of(value, "value"), weight_type = element_of(weights, "attention_weights");
  const Element wide = value_type == Element::float64 ? Element::float64 : Element::float32;
  STD_TORCH_CHECK(element_of(locations, "sampling_locations") == wide,
                  "ms_deform_attn: sampling_locations must be float64 where value is, else float32");
  STD_TORCH_CHECK(weight_type == wide || weight_type == value_type,
                  "ms_deform_attn: attention_weights must have the type of sampling_locations or of value");
  STD_TORCH_CHECK(value.is_cpu() == locations.is_cpu() && value.is_cpu() == weights.is_cpu() &&
                      value.get_device_index() == locations.get_device_index() &&
                      value.get_device_index() == weights.get_device_index(),
                  "ms_deform_attn: all tensors must be on one device");
  return {value.size(0),     value.size(1), value.size(2), value.size(3), locations.size(1), locations.size(3),
          locations.size(4), shapes.data(), value_type,    weight_type,   value.const_data_ptr(),
          locations.const_data_ptr(), weights.const_data_ptr()};
}

// Kernels read the two numbers of a location at once, which a view with an odd offset does not allow.
inline Tensor aligned(Tensor tensor) {
  return reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % 16 == 0 ? tensor : torch::stable::clone(tensor);
}

inline void check_output_gradient(const Tensor& gradient, const Tensor& value, const Problem& problem) {
  STD_TORCH_CHECK(gradient.dim() == 3 && gradient.size(0) == problem.batch && gradient.size(1) == problem.queries &&
                      gradient.size(2) == problem.heads * problem.channels,
                  "ms_deform_attn_backward: the gradient of the output must be (B, Lq, H*D)");
  STD_TORCH_CHECK(gradient.scalar_type() == value.scalar_type() && gradient.is_cpu() == value.is_cpu() &&
                      gradient.get_device_index() == value.get_device_index(),
                  "ms_deform_attn_backward: the gradient of the output must have the type and device of value");
}

}  // namespace segue
