#include "cli/engine_url.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace lockrun::cli {
namespace {

struct Row {
  const char* name;
  const char* url;
  const char* shown;
};
const std::vector<Row> k_rows = {
  {"none", "etcd://host:2379/deploy", "etcd://host:2379/deploy"},
  {"user_only", "etcd://user@host/deploy", "etcd://user@host/deploy"},
  {"password", "etcd://user:abc@host:2379/deploy", "etcd://user:***@host:2379/deploy"},
  {"empty_password", "etcd://user:@host/deploy", "etcd://user:@host/deploy"},
  {"with_colon_and_at", "etcd://user:a:b@c@h1:1,h2:2/deploy", "etcd://user:*****@h1:1,h2:2/deploy"},
  {"at_in_the_name", "etcd://host:2379/de@ploy", "etcd://host:2379/de@ploy"},
  {"at_behind_several_hosts", "etcd://h1:2379,[::1]:2379,h3/a:b@c?d=e@f", "etcd://h1:2379,[::1]:2379,h3/a:b@c?d=e@f"},
  {"at_behind_a_user", "etcd://user@host:2379/de@ploy", "etcd://user@host:2379/de@ploy"},
  {"with_number_sign", "etcd://user:a#b@host/deploy", "etcd://user:***@host/deploy"},
  {"with_slash", "etcd://user:a/b@host/deploy", "etcd://user:***@host/deploy"},
  {"with_question_mark", "etcd://user:a?b@host/deploy?ttl=5s", "etcd://user:***@host/deploy?ttl=5s"},
  {"beginning_with_slash", "etcd://user:/b@host/deploy", "etcd://user:**@host/deploy"},
  {"beginning_with_too_great_a_port", "etcd://user:65536/b@host/deploy", "etcd://user:*******@host/deploy"},
  {"beginning_with_digits_and_question_mark", "etcd://user:12?b@host/deploy", "etcd://user:****@host/deploy"},
  {"with_at_and_slash", "etcd://user:a@b/c@host/deploy", "etcd://user:*****@host/deploy"},
  {"with_at_in_the_name", "etcd://user:ab@host/de@ploy", "etcd://user:**********@ploy"},
  {"at_in_the_user", "etcd://us@er:a/b@host/deploy", "etcd://us@er:***@host/deploy"},
  {"number_sign_in_a_parameter", "etcd://h/x?password=a#b&ttl=5s", "etcd://h/x?password=***&ttl=5s"},
  {"parameters", "pg://h/db?password=abc&lock=x&sslpassword=de&pass=f",
    "pg://h/db?password=***&lock=x&sslpassword=**&pass=*"},
  {"file", "etcd://h/x?password-file=/etc/pw&ttl=5s", "etcd://h/x?password-file=/etc/pw&ttl=5s"},
  {"half", "etcd://h/x?password", "etcd://h/x?password"},
  {"empty", "etcd://h/x?password=", "etcd://h/x?password="},
  {"no_host", "etcd://", "etcd://"},
  {"question_mark_at_the_end", "etcd://h?", "etcd://h?"},
  {"a_file", "dir://user:abc@/x y", "dir://user:***@/x y"},
  {"no_url", "/tmp/user:abc@host", "/tmp/user:abc@host"},
  {"no_engine", "Etcd://user:abc@host/", "Etcd://user:abc@host/"},
};
class HidePassword : public ::testing::TestWithParam<Row> {};
TEST_P(HidePassword, LeavesTheRestAlone)
{
  EXPECT_EQ(without_password(GetParam().url), GetParam().shown);
}
INSTANTIATE_TEST_SUITE_P(
  Table, HidePassword, ::testing::ValuesIn(k_rows), [](const auto& row) { return row.param.name; });

const std::vector<Row> k_lines = {
  {"no_url", "make all", "make all"},
  {"a_word", "lockrun|etcd://bob:a b@h/x|cat|u:v@w", "lockrun|etcd://bob:***@h/x|cat|u:v@w"},
  {"several", "pg://a:b@c|etcd://d:e@f?pass=g|h", "pg://a:*@c|etcd://d:*@f?pass=*|h"},
  {"in_a_shells_command", "sh|-c|a etcd://b:c@d/'e' f@g;h 'i://j:k@l' m",
    "sh|-c|a etcd://b:*@d/'e' f@g;h 'i://j:*@l' m"},
  {"behind_an_option", "psql|--db=postgres://b:c@d/e|x", "psql|--db=postgres://b:*@d/e|x"},
  {"at_the_beginning", "://a:b@c", "://a:*@c"},
  {"nothing", "", ""},
};
class HidePasswords : public ::testing::TestWithParam<Row> {};
TEST_P(HidePasswords, FindsThemInTheWordsOfACommand)
{
  std::string line = GetParam().url;
  std::replace(line.begin(), line.end(), '|', '\0');
  hide_passwords(line.data(), line.size());
  std::replace(line.begin(), line.end(), '\0', '|');
  EXPECT_EQ(line, GetParam().shown);
}
INSTANTIATE_TEST_SUITE_P(
  Table, HidePasswords, ::testing::ValuesIn(k_lines), [](const auto& row) { return row.param.name; });

TEST(Ttl, IsAParameter)
{
  using std::chrono::seconds;
  EXPECT_EQ(ttl_of("etcd://h/x").value(), seconds(0));
  EXPECT_EQ(ttl_of("etcd://h/x?tt=5&ttl=1m&l=ttl").value(), seconds(60));
  EXPECT_FALSE(ttl_of("etcd://h/x?ttl=500ms"));
  EXPECT_FALSE(ttl_of("etcd://h/x?ttl="));
  EXPECT_FALSE(ttl_of("etcd://h/x?ttl=x"));
}

} // namespace
} // namespace lockrun::cli
