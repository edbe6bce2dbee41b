#include "engines/url.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockrun::testing {
namespace {

using engines::Endpoint;
using engines::parse_url;
using ::testing::ElementsAre;
using ::testing::Pair;

TEST(Url, TakesAllItsParts)
{
  const auto url =
    parse_url("etcd://ann:p%40ss:word@one,two:1234,[::1]:77/deploy/eu%20west?ttl=9s&cert=/a%26b", "2379");
  ASSERT_TRUE(url) << url.error();
  EXPECT_EQ(url->scheme, "etcd");
  EXPECT_EQ(url->user, "ann");
  EXPECT_EQ(url->password, "p@ss:word");
  EXPECT_THAT(url->endpoints, ElementsAre(Endpoint{"one", "2379"}, Endpoint{"two", "1234"}, Endpoint{"::1", "77"}));
  EXPECT_EQ(url->endpoints[2].text(), "[::1]:77");
  EXPECT_EQ(url->name, "deploy/eu west");
  EXPECT_THAT(url->parameters, ElementsAre(Pair("cert", "/a&b"), Pair("ttl", "9s")));
  EXPECT_EQ(url->parameter("ttl"), "9s");
  EXPECT_EQ(url->parameter("key"), std::nullopt);
}

TEST(Url, NeedsNeitherUserNorParametersNorName)
{
  const auto url = parse_url("etcd://host", "2379");
  ASSERT_TRUE(url) << url.error();
  EXPECT_EQ(url->user, std::nullopt);
  EXPECT_EQ(url->password, std::nullopt);
  EXPECT_THAT(url->endpoints, ElementsAre(Endpoint{"host", "2379"}));
  EXPECT_EQ(url->name, "");
}

TEST(Url, MayHaveAnAtBehindTheHostWhenThereIsNoPassword)
{
  EXPECT_EQ(parse_url("etcd://h:2379/de@ploy#1", "1")->name, "de@ploy#1");
  EXPECT_EQ(parse_url("etcd://ann@h/x?cert=/a@b", "1")->parameter("cert"), "/a@b");
}

TEST(Url, TellsAnEmptyPasswordFromNone)
{
  EXPECT_EQ(parse_url("etcd://ann@h/x", "1")->password, std::nullopt);
  EXPECT_EQ(parse_url("etcd://ann:@h/x", "1")->password, "");
}

TEST(Url, HasASchemeWithoutCase)
{
  EXPECT_EQ(parse_url("EtCd://host/Name", "1")->scheme, "etcd");
  EXPECT_EQ(parse_url("EtCd://host/Name", "1")->name, "Name");
}

using engines::UrlForm;

TEST(Url, MayHaveTheNameInAFragment)
{
  const auto url =
    parse_url("postgres://ann:p%40ss@one:1,two/my%20db?sslmode=require#nightly%20job#2?", "5432", UrlForm::fragment);
  ASSERT_TRUE(url) << url.error();
  EXPECT_EQ(url->password, "p@ss");
  EXPECT_THAT(url->endpoints, ElementsAre(Endpoint{"one", "1"}, Endpoint{"two", "5432"}));
  EXPECT_EQ(url->path, "my db");
  EXPECT_EQ(url->name, "nightly job#2?");
  EXPECT_THAT(url->parameters, ElementsAre(Pair("sslmode", "require")));
}

struct Address {
  const char* name;
  const char* url;
  std::size_t hosts;
  const char* path;
  const char* lock;
};
constexpr Address k_addresses[] = {
  {"whole", "postgres://host/db#n", 1, "db", "n"},
  {"no_host", "postgres:///db#n", 0, "db", "n"},
  {"nothing_but_a_name", "postgres://#n", 0, "", "n"},
  {"a_user_and_no_host", "postgres://ann@/db#n", 0, "db", "n"},
  {"a_user_with_a_password_and_no_host", "postgres://ann:x@/db#n", 0, "db", "n"},
  {"a_directory_of_sockets", "postgres:///db?host=/run/postgresql#n", 0, "db", "n"},
  {"parameters_only", "postgres://?host=/run/postgresql#n", 0, "", "n"},
  {"no_path", "postgres://host#n", 1, "", "n"},
  {"no_name", "postgres://host/db", 1, "db", ""},
  {"an_at_in_the_name", "postgres:///db#a@b", 0, "db", "a@b"},
};
class UrlWithFragment : public ::testing::TestWithParam<Address> {};
TEST_P(UrlWithFragment, NeedsNoHost)
{
  const auto url = parse_url(GetParam().url, "5432", UrlForm::fragment);
  ASSERT_TRUE(url) << url.error();
  EXPECT_EQ(url->endpoints.size(), GetParam().hosts);
  EXPECT_EQ(url->path, GetParam().path);
  EXPECT_EQ(url->name, GetParam().lock);
}
INSTANTIATE_TEST_SUITE_P(
  Table, UrlWithFragment, ::testing::ValuesIn(k_addresses), [](const auto& row) { return row.param.name; });

TEST(Url, HasItsPasswordEncodedInFrontOfAFragment)
{
  for (const char* const text : {"postgres://ann:a#b@host/db#n", "postgres://ann:a/b@host/db#n",
         "postgres://ann:a?b@host/db#n", "postgres://ann:x@host/db@#n"}) {
    EXPECT_FALSE(parse_url(text, "5432", UrlForm::fragment)) << text;
  }
  EXPECT_FALSE(parse_url("postgres://a,,b/db#n", "5432", UrlForm::fragment));
}

struct Row {
  const char* name;
  const char* url;
  const char* complaint;
};
constexpr const char* k_unencoded =
  "in front of the host '/', '?' and '#' are written as %2F, %3F and %23, and behind a password '@' as %40";
constexpr Row k_wrong[] = {
  {"no_scheme", "host/name", "it has no '://'"},
  {"no_host", "etcd:///name", "it names no host"},
  {"an_empty_host_in_the_list", "etcd://a,,b/name", "it names no host"},
  {"a_port_that_is_none", "etcd://a:http/name", "a port is a number from 1 to 65535"},
  {"a_port_out_of_range", "etcd://a:65536/name", "a port is a number from 1 to 65535"},
  {"a_password_with_a_slash", "etcd://ann:pa/ss@a/name", k_unencoded},
  {"a_password_with_a_question_mark", "etcd://ann:pa?ss@a/name", k_unencoded},
  {"a_password_with_a_number_sign", "etcd://ann:pa#ss@a/name", k_unencoded},
  {"a_password_that_begins_with_a_slash", "etcd://ann:/ss@a/name", k_unencoded},
  {"a_password_with_an_at_and_a_slash", "etcd://ann:p@a/ss@a/name", k_unencoded},
  {"a_password_that_begins_like_a_port", "etcd://ann:12?ss@a/name", k_unencoded},
  {"a_user_with_a_number_sign", "etcd://an#n@a/name", k_unencoded},
  {"a_number_sign_behind_the_host", "etcd://a#name", "it has a '#' behind the host"},
  {"an_address_without_brackets", "etcd://::1/name", "an IPv6 address needs brackets around it"},
  {"an_open_bracket", "etcd://[::1/name", "the '[' of an address has no ']'"},
  {"a_broken_escape", "etcd://a/x%2", "'%' needs two hexadecimal digits"},
  {"a_parameter_without_a_value", "etcd://a/x?password=ab&cd", "a parameter is KEY=VALUE, and '&' is written as %26"},
  {"a_parameter_twice", "etcd://a/x?ttl=1&ttl=2", "it has 'ttl' twice"},
};
class WrongUrl : public ::testing::TestWithParam<Row> {};
TEST_P(WrongUrl, IsRefused)
{
  const auto url = parse_url(GetParam().url, "2379");
  ASSERT_FALSE(url);
  EXPECT_EQ(url.error(), GetParam().complaint);
}
INSTANTIATE_TEST_SUITE_P(Table, WrongUrl, ::testing::ValuesIn(k_wrong), [](const auto& row) { return row.param.name; });

} // namespace
} // namespace lockrun::testing
