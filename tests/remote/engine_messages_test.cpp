#include "remote/engine_messages.hpp"

#include "remote/engine_program.hpp"
#include "sys/clock.hpp"

#include <gtest/gtest.h>

#include <functional>

namespace lockrun::remote {
namespace {

using protocol::Message;
using std::chrono::milliseconds;
using std::chrono::seconds;

Message held()
{
  const auto deadline = std::chrono::duration_cast<milliseconds>(sys::elapsed_now() + seconds(9)).count();
  return Message("HELD").with("ttl_ms", 10'000).with("token", "7").with("deadline", deadline);
}

TEST(Held, IsALease)
{
  const auto lease = lease_in(held().with("epoch", "3").with("key", "k").with("slot", 2));

  ASSERT_TRUE(lease.has_value());
  EXPECT_EQ(lease->ttl, seconds(10));
  EXPECT_EQ(lease->token, "7");
  EXPECT_EQ(lease->epoch, "3");
  EXPECT_EQ(lease->key, "k");
  EXPECT_EQ(lease->slot, 2);
  EXPECT_FALSE(lease->is_ancestors);
}

struct NonsenseRow {
  const char* name;
  std::function<Message()> message;
  const char* complaint;
};
void PrintTo(const NonsenseRow& row, std::ostream* out)
{
  *out << row.name;
}
const NonsenseRow k_nonsense[] = {
  {"without_a_ttl", [] { return Message("HELD").with("token", "7").with("deadline", 1); },
    "a lock without a time to live"},
  {"no_ttl_at_all", [] { return Message("HELD").with("ttl_ms", 0); }, "a lock without a time to live"},
  {"a_ttl_of_ages", [] { return Message("HELD").with("ttl_ms", protocol::k_longest_ttl + 1); },
    "a lock without a time to live"},
  {"without_a_token", [] { return Message("HELD").with("ttl_ms", 1000); }, "a lock without a token"},
  {"a_token_of_two_words", [] { return Message("HELD").with("ttl_ms", 1000).with("token", "7 8"); },
    "a lock without a token"},
  {"a_token_that_is_an_option", [] { return Message("HELD").with("ttl_ms", 1000).with("token", "-7"); },
    "a lock without a token"},
  {"without_a_deadline", [] { return Message("HELD").with("ttl_ms", 1000).with("token", "7"); },
    "a deadline that cannot be"},
  {"a_deadline_before_all_time",
    [] { return Message("HELD").with("ttl_ms", 1000).with("token", "7").with("deadline", 0); },
    "a deadline that cannot be"},
  {"a_deadline_beyond_its_ttl",
    [] { return Message("HELD").with("ttl_ms", 1000).with("token", "7").with("deadline", INT64_MAX); },
    "a deadline that cannot be"},
};
class Nonsense : public ::testing::TestWithParam<NonsenseRow> {};
TEST_P(Nonsense, IsNotBelieved)
{
  const auto lease = lease_in(GetParam().message());

  ASSERT_FALSE(lease.has_value());
  EXPECT_STREQ(lease.error(), GetParam().complaint);
}
INSTANTIATE_TEST_SUITE_P(
  Table, Nonsense, ::testing::ValuesIn(k_nonsense), [](const auto& row) { return std::string(row.param.name); });

TEST(Capability, IsAWholeWordOfTheList)
{
  EXPECT_TRUE(has_capability("shared,slots,fair", "slots"));
  EXPECT_TRUE(has_capability("fair", "fair"));
  EXPECT_FALSE(has_capability("shared,slots", "slot"));
  EXPECT_FALSE(has_capability("", "fair"));
}

TEST(Capability, IsMissingOnlyIfTheRequestNeedsIt)
{
  LockRequest request;
  EXPECT_EQ(missing_capability(request, ""), nullptr);
  request.mode = Mode::shared;
  EXPECT_STREQ(missing_capability(request, "slots"), "shared");
  EXPECT_EQ(missing_capability(request, "slots,shared"), nullptr);
}

TEST(Refusal, HasAReasonAndAStatusOfItsOwn)
{
  const Error busy = failure_in(Message("FAIL").with("reason", "busy").with("holder", "host 1"));
  EXPECT_EQ(busy.reason, Reason::busy);
  EXPECT_EQ(busy.holder, "host 1");
  EXPECT_EQ(busy.detail, "busy");

  const Error other = failure_in(Message("FAIL").with("reason", "strange").with("text", "no").with("status", 4711));
  EXPECT_EQ(other.reason, Reason::engine_refused);
  EXPECT_EQ(other.detail, "no");
  EXPECT_EQ(other.status, 255);
}

struct NameRow {
  const char* name;
  const char* lock;
  const char* engine;
};
void PrintTo(const NameRow& row, std::ostream* out)
{
  *out << row.lock;
}
constexpr NameRow k_names[] = {
  {"url", "etcd://host/name", "etcd"},
  {"upper_case", "ETCD://host/name", "etcd"},
  {"signs", "a+b-c.d2://x", "a+b-c.d2"},
  {"path", "/tmp/lock", ""},
  {"path_with_a_scheme_in_it", "./etcd://host", ""},
  {"no_scheme", "://host", ""},
  {"no_slashes", "name:app", ""},
  {"sign_first", "+a://x", ""},
  {"empty", "", ""},
};
class EngineName : public ::testing::TestWithParam<NameRow> {};
TEST_P(EngineName, IsTheSchemeOfAUrl)
{
  EXPECT_EQ(engine_name(GetParam().lock), GetParam().engine);
}
INSTANTIATE_TEST_SUITE_P(
  Table, EngineName, ::testing::ValuesIn(k_names), [](const auto& row) { return std::string(row.param.name); });

} // namespace
} // namespace lockrun::remote
