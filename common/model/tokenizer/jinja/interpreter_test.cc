#include "common/model/tokenizer/jinja/interpreter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "common/base/limits.h"
#include "common/model/tokenizer/jinja/parser.h"

namespace pregate::jinja {
namespace {

using ::testing::HasSubstr;

// What `source` prints, or the error's text; `x` is "aXb", the caller's.
absl::StatusOr<MarkedText> RunSource(const std::string& source) {
  auto parsed = Parse(source);
  if (!parsed.ok()) return parsed.status();
  Runtime runtime;
  runtime.now = absl::FromUnixSeconds(1767323045);  // 2026-01-02 03:04:05
  Variables variables;
  variables.emplace_back("x", runtime.heap.String("aXb", false).value());
  return Render(*parsed, std::move(variables), &runtime);
}

std::string Text(const std::string& source) {
  const auto text = RunSource(source);
  return text.ok() ? text->bytes() : std::string(text.status().message());
}

// The caller's text in brackets.
std::string Marks(const std::string& source) {
  const auto text = RunSource(source);
  if (!text.ok()) return std::string(text.status().message());
  std::string out;
  for (size_t i = 0; i < text->size(); ++i) {
    out +=
        text->IsTemplateAt(i) ? text->bytes().substr(i, 1) : "[" + text->bytes().substr(i, 1) + "]";
  }
  return out;
}

struct Case {
  const char *source, *expected;
};

TEST(JinjaTest, WhiteSpaceAroundTagsIsTransformers) {
  for (const auto& [source, expected] :
       std::initializer_list<Case>{{"a\n", "a"},
                                   {"a\n\n", "a\n"},
                                   {"a\r\nb\r", "a\nb"},
                                   {"{% if true %}\nb{% endif %}\nc", "bc"},
                                   {"  {% if true %}  \n  b\n  {% endif %}", "  \n  b\n"},
                                   {"a {% if true %} b{% endif %}", "a  b"},
                                   {"a \n {%- if true -%} \n b{% endif %}", "ab"},
                                   {"  {%+ if true %}b{% endif +%}\nc", "  b\nc"},
                                   {"  {{ 'a' }}\nb", "  a\nb"},
                                   {" \n{{- 'a' -}} \n b", "ab"},
                                   {"  {# c #}\nb", "b"},
                                   {"a {#- c -#} b", "ab"},
                                   {"{#-#} b", " b"},
                                   {"{% raw %}\n{{ a }}{% endraw %}\nb", "\n{{ a }}b"},
                                   {"{%- raw -%} {% x {%- endraw -%} b", "{% xb"},
                                   {"{{ {'a': {'b': 1}}['a']['b'] }}", "1"},
                                   {"{{ '}}' ~ \"%}\" }}", "}}%}"}}) {
    EXPECT_EQ(Text(source), expected) << source;
  }
}

TEST(JinjaTest, ExpressionsArePythons) {
  for (const auto& [source, expected] : std::initializer_list<Case>{
           {"{{ 1 + 2 * 3 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 3 }}",
            "7 3 -4 2 3.5 8"},
           {"{{ 'a' ~ 1 ~ none ~ true ~ 1.0 }}", "a1NoneTrue1.0"},
           {"{{ 'a' 'b' }} {{ 'ab' * 2 }} {{ [1] + [2] }} {{ (1,) }}", "ab abab [1, 2] (1,)"},
           {"{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 'b' in 'abc' }} {{ 1 not in [2] }}",
            "True False True True"},
           {"{{ not 1 == 2 }} {{ 0 or 'x' }} {{ '' and 1 }}|{{ 1 if false }}|", "True x ||"},
           {"{{ 'abc'[-1] }}{{ 'abcd'[1:3] }}{{ 'abc'[::-1] }}{{ [1, 2, 3][:-1] }}",
            "cbccba[1, 2]"},
           {"{{ {'a': 1, 'b': 'q\\'s'} }}", "{'a': 1, 'b': \"q's\"}"},
           {"{{ x.upper() }} {{ x['lower']() }} {{ x.nope is defined }}", "AXB axb False"},
           {"{{ {'items': 1}['items'] }} {{ {'a': 1}.items() | list }}", "1 [('a', 1)]"},
           {"{{ 'a,b,c'.split(',', 1) }} {{ ' a  b '.split() }} {{ 'a,b'.rsplit(',') }}",
            "['a', 'b,c'] ['a', 'b'] ['a', 'b']"},
           {"{{ 1 == 1.0 == true }} {{ [1, 'a'] == [1, 'a'] }} {{ none == undefined_name }}",
            "True True False"},
           {"{{ '%s is %d%%' % ('x', 5) }}", "x is 5%"},
           {"{{ '{1}{0} {k}'.format('a', 'b', k=1) }}", "ba 1"},
           {"{{ nothing }}|{{ nothing | length }}|{{ nothing | default('d') }}", "|0|d"},
           {"{{ 'é中'|length }} {{ 'ÉA'|lower }} {{ 'éß'.upper() }} {{ 'a b-c'|title }}",
            "2 éa ÉSS A B-C"},
           {"{{ 1e16 }} {{ 0.00001 }} {{ 1.5 }} {{ 1_000 }}", "1e+16 1e-05 1.5 1000"}}) {
    EXPECT_EQ(Text(source), expected) << source;
  }
}

TEST(JinjaTest, StatementsAreJinjas) {
  for (const auto& [source, expected] : std::initializer_list<Case>{
           {"{% for i in [1, 2, 3] if i != 2 %}{{ loop.index }}{{ i }}{{ loop.last }},{% endfor %}",
            "11False,23True,"},
           {"{% for i in [] %}a{% else %}b{% endfor %}", "b"},
           {"{% for a, b in {'k': 1}.items() %}{{ a }}={{ b }}{% endfor %}", "k=1"},
           {"{% for i in range(9) %}{% if i == 2 %}{% continue %}{% elif i == 4 %}{% break %}"
            "{% endif %}{{ i }}{% endfor %}",
            "013"},
           {"{% set a = 1 %}{% for i in [1, 2] %}{{ a }}{% set a = i %}{{ a }}{% endfor %}{{ a }}",
            "11121"},
           {"{% set n = namespace(a=1) %}{% for i in [1, 2] %}{% set n.a = n.a + i %}{% endfor %}"
            "{{ n.a }}",
            "4"},
           {"{% set a, b = 1, 2 %}{{ b }}{{ a }}{% set c %}x{{ a }}{% endset %}[{{ c }}]",
            "21[x1]"},
           {"{% set c | upper | trim %} a {% endset %}{{ c }}", "A"},
           {"{% macro m(a, b='d') %}<{{ a }}{{ b }}>{% endmacro %}{{ m(1) }}{{ m(b=2, a=3) }}",
            "<1d><32>"},
           {"{% macro m(n) %}{{ n }}{% if n %}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(3) }}",
            "3210"},
           {"{% set y = 'o' %}{% macro m() %}{{ y }}{% endmacro %}{% set y = 'n' %}{{ m() }}", "n"},
           {"{% generation %}a{% set q = 1 %}{% endgeneration %}{{ q }}", "a"},
           {"{% filter upper %}a{{ x }}{% endfilter %}", "AAXB"},
           {"{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}", "12"},
           {"{{ [3, 1, 2] | sort | join('-') }} {{ ['b', 'A'] | sort }}", "1-2-3 ['A', 'b']"},
           {"{{ [{'a': 1}, {'a': 2}] | map(attribute='a') | list }}", "[1, 2]"},
           {"{{ [{'r': 'u'}, {'r': 's'}] | selectattr('r', 'equalto', 's') | list | length }}",
            "1"},
           {"{{ [1, none, 2] | select | list }}{{ [1, 2] | reject('odd') | list }}", "[1, 2][2]"},
           {"{{ none | selectattr('a') | list }}", "[]"},
           {"{{ {'b': 1, 'a': [true, none, 1.5, 'é\"\\n']} | tojson }}",
            "{\"b\": 1, \"a\": [true, null, 1.5, \"é\\\"\\n\"]}"},
           {"{{ {'a': [1, {}], 'b': []} | tojson(indent=2) }}",
            "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": []\n}"},
           {"{{ 'é😀' | tojson(ensure_ascii=true) }}", "\"\\u00e9\\ud83d\\ude00\""},
           {"{{ 'a\\n\\nb' | indent(2) }}|{{ 'a\\nb' | indent(1, true) }}", "a\n\n  b| a\n b"},
           {"{{ strftime_now('%d %b %Y') }}", "02 Jan 2026"},
           {"{{ '<' | safe + '<' }} {{ '<' | e }}", "<&lt; &lt;"},
           {"{{ 2.5 | round }} {{ 2.567 | round(1) }} {{ '3' | int + 1 }} {{ 'z' | int(7) }}",
            "2.0 2.6 4 7"}}) {
    EXPECT_EQ(Text(source), expected) << source;
  }
}

TEST(JinjaTest, TextKeepsItsOwnersThroughEveryOperation) {
  for (const auto& [source, expected] : std::initializer_list<Case>{
           {"a{{ x }}b", "a[a][X][b]b"},
           {"{{ '<' + x ~ '>' }}", "<[a][X][b]>"},
           {"{{ (' ' ~ x ~ ' ') | trim }}", "[a][X][b]"},
           {"{{ ('q' ~ x)[::-1] }}", "[b][X][a]q"},
           {"{{ ('q' ~ x).upper() }}{{ x | lower | capitalize }}", "Q[A][X][B][A][x][b]"},
           {"{{ x | replace('X', '|') }}{{ 'aXb' | replace('X', x) }}", "[a]|[b]a[a][X][b]b"},
           {"{{ x.split('X') | join('-') }}{{ ('-' ~ x).partition('X') | join }}",
            "[a]-[b]-[a][X][b]"},
           {"{{ [x, 'y'] | tojson }}", "[[][\"][a][X][b][\"][,][ ][\"]y[\"][]]"},
           {"{{ '%s!' % x }}{{ '{}!'.format(x) }}", "[a][X][b]![a][X][b]!"},
           {"{% set v %}.{{ x }}{% endset %}{{ v }}{{ v | indent }}", ".[a][X][b].[a][X][b]"},
           {"{% macro m(t) %}<{{ t }}{% endmacro %}{{ m(x) }}", "<[a][X][b]"},
           {"{{ x * 2 }}{{ x | list | last }}{{ x[0] }}{{ x | first }}",
            "[a][X][b][a][X][b][b][a][a]"},
           {"{{ 1 }}{{ none }}", "[1][N][o][n][e]"},
           {"{{ {x: 1} | items | first | first }}", "[a][X][b]"}}) {
    EXPECT_EQ(Marks(source), expected) << source;
  }
}

TEST(JinjaTest, WhatIsNotSupportedIsNamedWithItsLine) {
  for (const auto& [source, expected] : std::initializer_list<Case>{
           {"a\n{% include 'f' %}", "line 2: the statement \"include\" is not supported"},
           {"{% import 'f' as f %}", "the statement \"import\""},
           {"{% extends 'f' %}", "the statement \"extends\""},
           {"{% call m() %}{% endcall %}", "the statement \"call\""},
           {"{{ 1 | nope }}", "line 1: the filter \"nope\""},
           {"{{ [] | map('nope') }}", "the filter \"nope\""},
           {"{{ 1 is nope }}", "the test \"nope\""},
           {"{{ [] | selectattr('a', 'nope') }}", "the test \"nope\""},
           {"{{ nope() }}", "the function \"nope\""},
           {"{{ x.__class__.mro() }}", "the method \"mro\""},
           {"{% for a in b recursive %}{% endfor %}", "a recursive loop"},
           {"{{ f(*a) }}", "an argument with * or **"},
           {"{% macro m() %}{{ caller() }}{% endmacro %}", "the variable \"caller\""}}) {
    const auto text = RunSource(source);
    EXPECT_TRUE(absl::IsUnimplemented(text.status())) << source << text.status();
    EXPECT_THAT(std::string(text.status().message()), HasSubstr(expected)) << source;
  }
}

TEST(JinjaTest, InABranchItIsRefusedWhereItIsReached) {
  EXPECT_EQ(Text("{% if nothing %}{{ x | nope }}{{ nope() }}{% else %}a{% endif %}"), "a");
  EXPECT_EQ(Text("{{ x | nope if nothing else 'b' }}"), "b");
  EXPECT_EQ(Text("{{ 'tojson' is filter }}{{ 'from_json' is filter }}"), "TrueFalse");
  for (const auto& [source, expected] : std::initializer_list<Case>{
           {"{% if x %}\n{{ x | fromjson }}{% endif %}", "line 2: the filter \"fromjson\""},
           {"{% if x %}{{ x is nope }}{% endif %}", "the test \"nope\""},
           {"{% if x %}{{ x.nope() }}{% endif %}", "the method \"nope\""},
           {"{{ 1 if nothing else x | map('nope') }}", "the filter \"nope\""},
           {"{{ joiner is defined }}", "the function \"joiner\""},
           {"{{ 'batch' is filter }}", "the filter \"batch\""},
           {"{% if nothing %}{% endif %}{{ x | nope }}", "the filter \"nope\""}}) {
    const auto text = RunSource(source);
    EXPECT_TRUE(absl::IsUnimplemented(text.status())) << source << text.status();
    EXPECT_THAT(std::string(text.status().message()), HasSubstr(expected)) << source;
  }
  EXPECT_THAT(RunSource("{% if x %}{{ nope() }}{% endif %}").status().message(),
              HasSubstr("\"nope\" is undefined"));
}

TEST(JinjaTest, MistakesAreNamedWithTheirLine) {
  for (const auto& [source, expected] : std::initializer_list<Case>{
           {"\n{{ a", "line 2: a tag is not closed"},
           {"{# a", "line 1: a comment is not closed"},
           {"{% if a %}", "\"endif\" is missing"},
           {"{% endif %}", "unexpected \"endif\""},
           {"{{ 'a }}", "a string is not closed"},
           {"{{ (1] }}", "unexpected \"]\""},
           {"{{ 1 2 }}", "expected \"}}\""},
           {"{% break %}", "\"break\" outside of a loop"},
           {"{{ 99999999999999999999 }}", "out of range"},
           {"\n\n{{ nothing.a }}", "line 3: \"nothing\" is undefined"},
           {"{{ 'a' + 1 }}", "line 1: \"+\" between str and int"},
           {"{{ 'a' + nothing }}", "\"nothing\" is undefined"},
           {"{{ 1 / 0 }}", "division by zero"},
           {"{{ 9223372036854775807 + 1 }}", "out of range"},
           {"{{ [].append(1) }}", "\"append\" would change a list"},
           {"{{ {}.update({}) }}", "\"update\" would change a dict"},
           {"{{ 1 < 'a' }}", "\"<\" between int and str"},
           {"{% for i in 5 %}{% endfor %}", "\"int\" cannot be iterated over"},
           {"{% set a, b = [1] %}", "1 values cannot be assigned to 2 names"},
           {"{% set q.a = 1 %}", "no namespace"},
           {"{{ x.split(1) }}", "expected a string"},
           {"{{ x.replace('a') }}", "replace() needs \"new\""},
           {"{{ x | trim(y=1) }}", "trim() has no parameter \"y\""},
           {"{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "takes at most 1 arguments"}}) {
    const auto text = RunSource(source);
    EXPECT_TRUE(absl::IsInvalidArgument(text.status())) << source << text.status();
    EXPECT_THAT(std::string(text.status().message()), HasSubstr(expected)) << source;
  }
  EXPECT_EQ(Text("\n{{ raise_exception('no') }}"), "no");
}

TEST(JinjaTest, EverythingIsBounded) {
  const std::string deep_list =
      "{% set n = namespace(v=[]) %}{% for i in range(9999) %}"
      "{% set n.v = [n.v] %}{% endfor %}";
  const std::string wide =
      "{% set n = namespace(v='0123456789abcdef') %}{% for i in range(40) %}"
      "{% set n.v = n.v + n.v %}{% endfor %}";
  const std::string many =
      "{% set n = namespace(v=[]) %}{% for i in range(40) %}"
      "{% set n.v = [n.v, n.v] %}{% endfor %}{{ n.v == n.v + [] }}{{ n.v }}";
  const std::string loops =
      "{% for i in range(99999) %}{% for i in range(99999) %}{% endfor %}"
      "{% endfor %}";
  const std::string prints =
      "{% for i in range(99999) %}0123456789012345678901234567890123456789"
      "01234567890123456789012345678901234567890123456789{% endfor %}";
  const std::string recursion = "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}";
  for (const std::string& source :
       {deep_list, wide, many, loops, prints, recursion, std::string("{{ range(100001) }}"),
        std::string("{{ 'a' * 99999999999 }}"), std::string("{{ [1] * 99999999999 }}"),
        std::string("{{ 'a' | indent(99999999999) }}"),
        "{{ " + std::string(5000, '(') + "1" + std::string(5000, ')') + " }}",
        "{{ " + std::string(5000, '-') + "1 }}", "{{ 1" + std::string(5000, '+') + "1 }}",
        std::string(kTemplateSourceBytesMax + 1, 'a')}) {
    const auto text = RunSource(source);
    EXPECT_TRUE(absl::IsResourceExhausted(text.status())) << source.substr(0, 80) << text.status();
  }
  std::string ifs;
  for (int i = 0; i < 1000; ++i) ifs += "{% if 1 %}";
  EXPECT_TRUE(absl::IsResourceExhausted(RunSource(ifs).status()));
  std::string not_deep = "{{ 1";
  for (int i = 0; i < 150; ++i) not_deep += " + 1";
  EXPECT_EQ(Text(not_deep + " }}"), "151");
}

TEST(JinjaTest, ANamespaceMayHoldItself) {
  EXPECT_EQ(
      Text("{% set n = namespace() %}{% set n.n = n %}{% set n.l = [n] %}{{ n.n.n is defined }}"),
      "True");
  EXPECT_THAT(Text("{% set n = namespace() %}{% set n.n = n %}{{ n }}"),
              HasSubstr("printing a namespace is not supported"));
}

}  // namespace
}  // namespace pregate::jinja
