#include "gateway_service/core/openai_logprobs.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/utf8.h"
#include "gateway_service/core/json_text.h"

namespace pregate::gateway::openai {
namespace {

constexpr float kLogprobMin = -9999;  // in place of minus infinity, which JSON has not

std::string Number(float logprob) {
  return absl::StrCat(logprob >= kLogprobMin ? logprob : kLogprobMin);  // NaN is not, either
}

std::string ChatMembers(const TokenLogprob& token) {
  const std::vector<int32_t> bytes(
      reinterpret_cast<const unsigned char*>(token.bytes.data()),
      reinterpret_cast<const unsigned char*>(token.bytes.data()) + token.bytes.size());
  std::string out = absl::StrCat(R"("token":)", JsonString(TokenText(token.bytes)),
                                 R"(,"logprob":)", Number(token.logprob), R"(,"bytes":)");
  AppendJsonArray(&out, bytes);
  return out;
}

void AppendItem(std::string* list, const std::string& item) {
  absl::StrAppend(list, list->empty() ? "" : ",", item);
}

}  // namespace

std::string TokenText(const std::string& bytes) {
  if (IsUtf8(bytes)) return bytes;
  std::string out = "bytes:";
  for (const unsigned char c : bytes) absl::StrAppendFormat(&out, "\\x%02x", c);
  return out;
}

void Logprobs::Add(const TokenLogprobs& token) {
  if (chat_) {
    std::string top;
    for (const TokenLogprob& other : token.top)
      AppendItem(&top, absl::StrCat("{", ChatMembers(other), "}"));
    AppendItem(&content_,
               absl::StrCat("{", ChatMembers(token.token), R"(,"top_logprobs":[)", top, "]}"));
    return;
  }
  // The token itself is there, too; several may have one text, the likeliest counts.
  std::set<std::string> seen;
  std::string top;
  const auto append = [&](const TokenLogprob& one) {
    const std::string text = TokenText(one.bytes);
    if (seen.insert(text).second)
      AppendItem(&top, absl::StrCat(JsonString(text), ":", Number(one.logprob)));
  };
  for (const TokenLogprob& other : token.top) append(other);
  append(token.token);
  AddCompletion(token.token.bytes, Number(token.token.logprob), absl::StrCat("{", top, "}"));
}

void Logprobs::AddFirst(const std::string& bytes) { AddCompletion(bytes, "null", "null"); }

void Logprobs::AddCompletion(const std::string& bytes, const std::string& logprob,
                             const std::string& top) {
  AppendItem(&tokens_, JsonString(TokenText(bytes)));
  AppendItem(&logprobs_, logprob);
  AppendItem(&tops_, top);
  AppendItem(&offsets_, absl::StrCat(offset_));
  offset_ += std::count_if(bytes.begin(), bytes.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

std::string Logprobs::Take() {
  if (chat_) {
    if (content_.empty()) return "null";
    return absl::StrCat(R"({"content":[)", std::exchange(content_, ""), R"(],"refusal":null})");
  }
  if (tokens_.empty()) return "null";
  return absl::StrCat(R"({"tokens":[)", std::exchange(tokens_, ""), R"(],"token_logprobs":[)",
                      std::exchange(logprobs_, ""), R"(],"top_logprobs":[)",
                      std::exchange(tops_, ""), R"(],"text_offset":[)", std::exchange(offsets_, ""),
                      "]}");
}

}  // namespace pregate::gateway::openai
