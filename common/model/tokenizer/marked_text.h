// Text that knows which of its bytes a chat template wrote and which a caller did.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace pregate {

// A value. Only bytes of the template may become special tokens.
class MarkedText {
 public:
  struct Run {
    size_t end;  // where it ends; it begins where the one before it ends
    bool is_template;

    bool operator==(const Run&) const = default;
  };

  MarkedText() = default;
  MarkedText(std::string bytes, bool is_template);

  const std::string& bytes() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  // By place; neighbours differ, and none is empty.
  const std::vector<Run>& runs() const { return runs_; }

  void Append(const MarkedText& other) { AppendPart(other, 0, other.size()); }
  void Append(std::string_view bytes, bool is_template);
  // Appends `size` bytes of `other` from `begin` on. REQUIRES: they are there.
  void AppendPart(const MarkedText& other, size_t begin, size_t size);
  MarkedText Part(size_t begin, size_t size) const;
  bool IsTemplateAt(size_t pos) const;  // REQUIRES: pos < size()

 private:
  size_t RunAt(size_t pos) const;

  std::string bytes_;
  std::vector<Run> runs_;
};

}  // namespace pregate
