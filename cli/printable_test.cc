#include "cli/printable.h"

#include <gtest/gtest.h>

namespace pregate::cli {
namespace {

TEST(PrintableTest, KeepsTextAndReplacesWhatSteersATerminal) {
  const struct {
    std::string text, cell, flow;
  } kCases[] = {
      {"", "", ""},
      {"a b ~", "a b ~", "a b ~"},
      {"é · ▁ 漢 😀", "é · ▁ 漢 😀", "é · ▁ 漢 😀"},
      {"\x1b[2Jx", "�[2Jx", "�[2Jx"},
      {"a\nb\tc", "a�b�c", "a\nb\tc"},
      {"a\rb\x7f\a", "a�b��", "a�b��"},
      {std::string("a\0b", 3), "a�b", "a�b"},
      {"\xC2\x9B"
       "2J",
       "�2J", "�2J"},  // CSI as one character
      {"\x9B"
       "2J",
       "�2J", "�2J"},                                    // and as the byte of an 8-bit terminal
      {"\xC0\x9B|\xE0\x80\x9B|", "��|���|", "��|���|"},  // overlong
      {"\xE2\x96", "��", "��"},
      {"\xED\xA0\x80", "���", "���"},
      {"\xF4\x90\x80\x80\xFF", "�����", "�����"},
  };
  for (const auto& c : kCases) {
    EXPECT_EQ(Printable(c.text, Layout::kCell), c.cell) << c.text;
    EXPECT_EQ(Printable(c.text, Layout::kFlow), c.flow) << c.text;
  }
}

}  // namespace
}  // namespace pregate::cli
