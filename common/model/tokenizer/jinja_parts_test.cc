#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/model/tokenizer/tokenizer_chat.h"

namespace pregate {
namespace {

// "text|<value>|%tag%", or "?" for a template that cannot be read.
std::string Shown(std::string_view source) {
  const auto parts = ParseJinjaParts(source);
  if (!parts) return "?";
  std::string out;
  for (const JinjaPart& part : *parts) {
    if (!out.empty()) out += "|";
    if (part.kind == JinjaPart::Kind::kText) out += part.text;
    if (part.kind == JinjaPart::Kind::kValue) out += "<" + part.text + ">";
    if (part.kind == JinjaPart::Kind::kTag) out += "%" + part.text + "%";
  }
  return out;
}

// The right values are Jinja 3.1's with trim_blocks and lstrip_blocks.
TEST(JinjaPartsTest, WhiteSpaceIsAsJinjaHasIt) {
  EXPECT_EQ(Shown(""), "");
  EXPECT_EQ(Shown("a { b } %}"), "a { b } %}");
  EXPECT_EQ(Shown("a\n"), "a");
  EXPECT_EQ(Shown("a\n\n"), "a\n");
  EXPECT_EQ(Shown("a\r\nb\rc\r\n"), "a\nb\nc");
  EXPECT_EQ(Shown("  {% x %}\n\n b"), "%x%|\n b");
  EXPECT_EQ(Shown("a  {% x %}"), "a  |%x%");
  EXPECT_EQ(Shown("a\n  {% x %}"), "a\n|%x%");
  EXPECT_EQ(Shown("a\n  {%+ x +%}\nb"), "a\n  |%x%|\nb");
  EXPECT_EQ(Shown("a \n {%- x -%} \n b"), "a|%x%|b");
  EXPECT_EQ(Shown("a \n {{- x -}} \n b"), "a|<x>|b");
  EXPECT_EQ(Shown(" {{ x }}\nb"), " |<x>|\nb");
  EXPECT_EQ(Shown("{{ x }} {% y %}"), "<x>| |%y%");
  EXPECT_EQ(Shown("a{# c #}\nb"), "ab");
  EXPECT_EQ(Shown("a {#- c -#} b"), "ab");
  EXPECT_EQ(Shown("{% x %}\n  {% y %}"), "%x%|%y%");
}

TEST(JinjaPartsTest, ExpressionsAreLiteralsAndVariables) {
  EXPECT_EQ(Shown("{{ 'a' + \"b\" ~ x }}c"), "ab|<x>|c");
  EXPECT_EQ(Shown(R"({{ 'a\n\t\\\'"' }})"), "a\n\t\\'\"");
  EXPECT_EQ(Shown("{{ m['role'] + m.role + m[\"a\"].b[0] }}"), "<m.role>|<m.role>|<m.a.b[0]>");
  EXPECT_EQ(Shown("{% if m [ 'r' ]!='s' and not x %}"), "%if m.r != 's' and not x%");
  EXPECT_EQ(Shown("{{ '}}' }}{% x '%}' %}"), "}}|%x '%}'%");
  for (const char* bad :
       {"{{", "{{ }}", "{{ x", "{{ x | trim }}", "{{ f(x) }}", "{{ 'a }}", "{{ x + }}", "{{ + x }}",
        "{{ x y }}", "{% x", "{# x", "{{ '\\q' }}", "{{ '\\", "{{ x[ }}"}) {
    EXPECT_EQ(Shown(bad), "?") << bad;
  }
}

}  // namespace
}  // namespace pregate
