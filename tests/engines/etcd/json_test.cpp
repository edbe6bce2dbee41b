#include "engines/etcd/json.hpp"

#include <limits>

#include <gtest/gtest.h>

namespace lockrun::testing {
namespace {

using namespace engines::etcd;

TEST(Base64, IsThatOfRfc4648)
{
  const std::pair<const char*, const char*> k_rows[] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"},
    {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}};
  for (const auto& [plain, encoded] : k_rows) {
    EXPECT_EQ(encode_base64(plain), encoded);
    EXPECT_EQ(decode_base64(encoded), plain);
  }
}

TEST(Base64, TakesEveryByte)
{
  std::string all;
  for (int i = 0; i < 256; ++i) { all += static_cast<char>(i); }
  EXPECT_EQ(decode_base64(encode_base64(all)), all);
  EXPECT_EQ(decode_base64("Zm9v!"), std::nullopt);
}

TEST(GatewayJson, HasNumbersAsStringsAndLeavesZerosOut)
{
  const auto json = parse_json(R"({"revision":"9223372036854775807","ttl":7,"name":"x","key":"eA=="})");
  ASSERT_TRUE(json);
  EXPECT_EQ(number(*json, "revision"), std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(number(*json, "ttl"), 7);
  EXPECT_EQ(number(*json, "missing"), 0);
  EXPECT_EQ(number(*json, "name"), 0);
  EXPECT_EQ(text(*json, "name"), "x");
  EXPECT_EQ(text(*json, "ttl"), "");
  EXPECT_EQ(bytes(*json, "key"), "x");
  EXPECT_TRUE(field(field(*json, "missing"), "in it").is_null());
  EXPECT_TRUE(field(Json::array({1}), "x").is_null());
}

TEST(GatewayJson, IsRefusedWhenItIsNone)
{
  EXPECT_FALSE(parse_json("404 page not found"));
  EXPECT_FALSE(parse_json(""));
}

TEST(GatewayJson, IsWrittenWhateverTheBytes)
{
  EXPECT_EQ(write_json({{"command", "a\xff"}}), "{\"command\":\"a\xef\xbf\xbd\"}");
}

} // namespace
} // namespace lockrun::testing
