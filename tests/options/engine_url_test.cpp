#include "options/engine_url.hpp"

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
  {"at_behind_several_hosts", "etcd://h1:2379,[::1]:2379,h3/a:b@c?d=e@f", "etcd://h1:2379,[::1]:2379,h3/a:b@c?d=***"},
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
    "pg://h/db?password=***&lock=*&sslpassword=**&pass=*"},
  {"file", "etcd://h/x?password-file=/etc/pw&ttl=5s", "etcd://h/x?password-file=/etc/pw&ttl=5s"},
  {"half", "etcd://h/x?password", "etcd://h/x?password"},
  {"empty", "etcd://h/x?password=", "etcd://h/x?password="},
  {"no_host", "etcd://", "etcd://"},
  {"question_mark_at_the_end", "etcd://h?", "etcd://h?"},
  {"a_file", "dir://user:abc@/x y", "dir://user:***@/x y"},
  {"no_url", "/tmp/user:abc@host", "/tmp/user:abc@host"},
  {"no_scheme", "my_etcd://user:abc@host/", "my_etcd://user:abc@host/"},
  {"a_directory", "./etcd://user:abc@host/", "./etcd://user:abc@host/"},
  {"capitals", "Etcd://user:abc@host/", "Etcd://user:***@host/"},
  {"a_dot_in_the_scheme", "my.etcd+2://user:abc@host/", "my.etcd+2://user:***@host/"},
  {"an_unknown_parameter", "etcd://h/x?auth=abc&ttl=5s&x=", "etcd://h/x?auth=***&ttl=5s&x="},
  {"a_known_parameter_in_capitals", "etcd://h/x?TTL=5s", "etcd://h/x?TTL=**"},
  {"all_known_parameters", "etcd://h/x?ttl=1m&tls=yes&cacert=/a&cert=/b&key=/c&password-file=/d&publish=name",
    "etcd://h/x?ttl=1m&tls=yes&cacert=/a&cert=/b&key=/c&password-file=/d&publish=name"},
  {"an_ampersand_in_a_password", "etcd://h/x?password=ab&cd&ttl=5s", "etcd://h/x?password=**&**&ttl=5s"},
  {"without_an_at", "etcd://user:abc/deploy", "etcd://user:**********"},
  {"without_an_at_or_a_name", "etcd://user:abc", "etcd://user:***"},
  {"without_an_at_with_a_slash", "etcd://user:a/b?c#d/deploy", "etcd://user:**************"},
  {"without_an_at_with_a_digit_in_front", "etcd://user:1abc/deploy", "etcd://user:***********"},
  {"without_an_at_behind_a_host", "etcd://h:1,user:abc/deploy", "etcd://h:*****************"},
  {"an_encoded_at", "etcd://user:abc%40host/deploy", "etcd://user:*****************"},
  {"a_port_without_an_at", "etcd://host:12345/deploy", "etcd://host:12345/deploy"},
  {"a_name_in_a_fragment", "postgres://ann:abc@h/db#nightly", "postgres://ann:***@h/db#nightly"},
  {"a_fragment_without_a_host", "postgres:///db#nightly", "postgres:///db#nightly"},
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
  {"in_quotes_with_a_space", "sh|-c|lockrun 'etcd://b:c d@e/f' g h@i", "sh|-c|lockrun 'etcd://b:***@e/f' g h@i"},
  {"in_double_quotes", "sh|-c|x \"etcd://b:c 'd@e/f\" g|y", "sh|-c|x \"etcd://b:****@e/f\" g|y"},
  {"in_an_open_quote", "sh|-c|x 'etcd://b:c d@e|y@z", "sh|-c|x 'etcd://b:***@e|y@z"},
  {"a_lock_of_ours", "lockrun|etcd://h/x?auth=abc&ttl=5s|cat", "lockrun|etcd://h/x?auth=***&ttl=5s|cat"},
  {"a_page", "curl|https://h/x?id=abc&access_token=d&pwd=e", "curl|https://h/x?id=abc&access_token=*&pwd=*"},
  {"in_a_shells_command_without_an_at", "sh|-c|lockrun 'ETCD://b:c/d' x", "sh|-c|lockrun 'ETCD://b:***' x"},
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
  EXPECT_EQ(ttl_of("postgres://h/x?ttl=9s#name").value(), seconds(9));
  EXPECT_EQ(ttl_of("etcd://h/x?ttl=366d").value(), std::chrono::hours(366 * 24));
  EXPECT_FALSE(ttl_of("etcd://h/x?ttl=367d"));
}

TEST(Publish, IsAParameter)
{
  EXPECT_EQ(published_by("etcd://h/x").value(), Published::command);
  EXPECT_EQ(published_by("etcd://h/x?publish=command").value(), Published::command);
  EXPECT_EQ(published_by("etcd://h/x?ttl=5s&publish=name").value(), Published::name);
  EXPECT_FALSE(published_by("etcd://h/x?publish="));
  EXPECT_FALSE(published_by("etcd://h/x?publish=nothing"));
}

} // namespace
} // namespace lockrun::cli
