#include "gateway_service/core/page.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate::gateway {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

TEST(PageTest, PolicyAllowsExactlyWhatIsInThePage) {
  // echo -n 'alert(1)' | openssl dgst -sha256 -binary | base64
  const std::string policy = ContentSecurityPolicy("<p>x</p><script>alert(1)</script><p>y</p>");
  EXPECT_THAT(policy, HasSubstr("default-src 'none'"));
  EXPECT_THAT(policy,
              HasSubstr("script-src 'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI='"));
  EXPECT_THAT(policy, HasSubstr("style-src 'none'"));
  EXPECT_THAT(policy, HasSubstr("frame-ancestors 'none'"));
  EXPECT_THAT(policy, Not(HasSubstr("unsafe")));
  EXPECT_NE(policy, ContentSecurityPolicy("<script>alert(2)</script>"));
}

TEST(PageTest, IsWholeAndOfItself) {
  const std::string html(PageHtml());
  EXPECT_THAT(html, StartsWith("<!doctype html>"));
  EXPECT_THAT(html, EndsWith("</html>\n"));
  const std::string policy = ContentSecurityPolicy(html);
  EXPECT_THAT(policy, Not(HasSubstr("script-src 'none'")));
  EXPECT_THAT(policy, Not(HasSubstr("style-src 'none'")));
  // What the policy would refuse, and so would silently not be there.
  for (const char* refused :
       {" style=", " onclick=", " onload=", " onsubmit=", "<script ", "<style ",
        "<link rel=\"stylesheet", "http://", "https://", "@import", "innerHTML"}) {
    EXPECT_THAT(html, Not(HasSubstr(refused)));
  }
}

}  // namespace
}  // namespace pregate::gateway
