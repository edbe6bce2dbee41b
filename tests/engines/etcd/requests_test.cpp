#include "engines/etcd/requests.hpp"

#include <gtest/gtest.h>

// Bytes as etcd gets them: other versions of lockrun, etcdctl and Go's concurrency.Mutex use the same queues.
namespace lockrun::testing {
namespace {

using namespace engines;
using namespace engines::etcd;

const Note k_exclusive{};

std::string text_of(const Json& request)
{
  return write_json(request);
}

TEST(EtcdRequests, MakeAKeyThatIsNotThere)
{
  const std::vector<std::string> none;
  // YS8= is "a/", YTA= is "a0", YS83Nw== is "a/77".
  EXPECT_EQ(text_of(make_request({"a/", "a/77", k_exclusive, 119, none, std::nullopt})),
    R"({"compare":[{"create_revision":"0","key":"YS83Nw==","result":"EQUAL","target":"CREATE"}],)"
    R"("failure":[{"request_range":{"key":"YS8=","range_end":"YTA="}}],)"
    R"("success":[{"request_put":{"key":"YS83Nw==","lease":"119",)"
    R"("value":"eyJsb2NrcnVuIjoxLCJtb2RlIjoiZXhjbHVzaXZlIn0="}},{"request_range":{"key":"YS8=","range_end":"YTA="}}]})");
}

TEST(EtcdRequests, MakeAKeyInPlaceOfAFormerOneUnlessAnotherCallerHasJoined)
{
  const std::vector<std::string> former{"a/1"};
  const Json request = make_request({"a/", "a/77", k_exclusive, 119, former, 41});
  EXPECT_EQ(text_of(field(request, "compare")),
    R"([{"create_revision":"42","key":"YS8=","range_end":"YTA=","result":"LESS","target":"CREATE"}])");
  EXPECT_EQ(text_of(field(request, "success").front()), R"({"request_delete_range":{"key":"YS8x"}})");
}

TEST(EtcdRequests, TakeTheFirstSlotOfAnEmptyQueueAtOnce)
{
  const Note note{Mode::exclusive, 2};
  const std::vector<std::string> none;
  const Json choice =
    field(make_request({"a/", "a/77", note, 119, none, std::nullopt}), "success").front().at("request_txn");
  EXPECT_EQ(text_of(field(choice, "compare")),
    R"([{"key":"YS8=","mod_revision":"1","range_end":"YTA=","result":"LESS","target":"MOD"}])");
  const auto slot_in = [&](const char* branch) {
    return read_note(bytes(choice.at(branch).front().at("request_put"), "value")).slot;
  };
  EXPECT_EQ(slot_in("success"), 0);
  EXPECT_EQ(slot_in("failure"), std::nullopt);
}

TEST(EtcdRequests, WatchOnlyDeletionsUnlessASlotIsAwaited)
{
  EXPECT_EQ(text_of(watch_key("a/77", 5, false)),
    R"({"create_request":{"filters":["NOPUT"],"key":"YS83Nw==","start_revision":"5"}})");
  EXPECT_EQ(text_of(watch_key("a/77", 5, true)), R"({"create_request":{"key":"YS83Nw==","start_revision":"5"}})");
  EXPECT_EQ(text_of(watch_below("a/", 5)),
    R"({"create_request":{"filters":["NOPUT"],"key":"YS8=","range_end":"YTA=","start_revision":"5"}})");
}

TEST(EtcdRequests, FindNothingInAnAnswerThatMakesNoSense)
{
  for (const char* text : {"{}", R"({"responses":{"a":{},"b":{}}})", R"({"responses":5})", R"({"responses":[]})",
         R"({"responses":[1,2]})", R"({"responses":[{"response_range":[]},{}]})"}) {
    SCOPED_TRACE(text);
    const Json answer = parse_json(text).value();
    EXPECT_TRUE(members_of(found_last(answer), "a/").empty());
    EXPECT_FALSE(is_present(answer, 0));
    EXPECT_FALSE(is_present(answer, 1));
  }
  const Json answer = parse_json(R"({"responses":[{"response_range":{"count":"1"}},{"response_range":{}}]})").value();
  EXPECT_TRUE(is_present(answer, 0));
  EXPECT_FALSE(is_present(answer, 1));
}

} // namespace
} // namespace lockrun::testing
