#include <cmath>
#include <limits>

#include "tests/fuzz/mutators.h"

namespace pregate::fuzz {
namespace {

using nlohmann::json;

void Collect(json* value, std::vector<json*>* nodes) {
  nodes->push_back(value);
  if (!value->is_structured()) return;
  for (auto& child : *value) Collect(&child, nodes);
}

json Extreme(std::mt19937_64& random) {
  switch (random() % 16) {
    case 0:
      return nullptr;
    case 1:
      return true;
    case 2:
      return "";
    case 3:
      return std::string(1 + random() % 600, 'x');
    case 4:
      return std::string("\0\xC3\xFF", 3);
    case 5:
      return json::array();
    case 6:
      return json::object();
    case 7:
      return 0;
    case 8:
      return -1;
    case 9:
      return std::numeric_limits<int64_t>::min();
    case 10:
      return std::numeric_limits<uint64_t>::max();
    case 11:
      return int64_t{1} << (random() % 63);
    case 12:
      return 1e308;
    case 13:
      return std::ldexp(1.0, -static_cast<int>(random() % 1000));
    case 14:
      return 0.5;
    default:
      return static_cast<int>(random() % 64);
  }
}

// One that stands in an array or object.
json::iterator Child(json* parent, std::mt19937_64& random) {
  return std::next(parent->begin(), static_cast<ptrdiff_t>(random() % parent->size()));
}

void ChangeOnce(json* root, std::mt19937_64& random) {
  std::vector<json*> nodes;
  Collect(root, &nodes);
  json* node = nodes[random() % nodes.size()];
  const json other = *nodes[random() % nodes.size()];
  if (node->is_structured() && !node->empty() && random() % 2 == 0) {
    const auto child = Child(node, random);
    const json value = *child;
    if (random() % 2 == 0) {
      node->erase(child);
    } else if (node->is_array()) {
      node->push_back(value);
    } else {
      (*node)[other.is_string() ? other.get<std::string>() : child.key() + "_"] = value;
    }
  } else if (node->is_number_integer() && random() % 2 == 0) {
    // As if unsigned: neighbours of the extremes are meant to wrap.
    *node = static_cast<int64_t>(node->get<uint64_t>() - 2 + random() % 5);
  } else {
    *node = random() % 2 == 0 ? Extreme(random) : other;
  }
}

}  // namespace

void ChangeJson(json* root, std::mt19937_64& random) {
  for (uint64_t changes = 1 + random() % 3; changes > 0; --changes) ChangeOnce(root, random);
}

std::string MutateJson(std::string_view text, std::mt19937_64& random) {
  json root = json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (root.is_discarded()) return "";
  ChangeJson(&root, random);
  return root.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace pregate::fuzz
