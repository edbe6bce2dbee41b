#include "engines/password.hpp"

#include "support/temp_dir.hpp"

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

namespace lockrun::testing {
namespace {

using engines::given_password;
using engines::read_password_file;
using engines::Url;
using ::testing::EndsWith;

std::string complaint_about(const std::filesystem::path& path)
{
  const auto password = read_password_file(path);
  return password ? "none: '" + *password + "'" : password.error().text;
}

TEST(Password, IsThatOfTheUrlThenOfTheFileThenOfTheEnvironment)
{
  constexpr const char* k_variable = "LOCKRUN_TEST_PASSWORD";
  const TempDir dir;
  Url url;
  EXPECT_EQ(given_password(url, k_variable).value(), std::nullopt);
  ASSERT_EQ(::setenv(k_variable, "", 1), 0);
  EXPECT_EQ(given_password(url, k_variable).value(), std::nullopt);
  ASSERT_EQ(::setenv(k_variable, "from the environment", 1), 0);
  EXPECT_EQ(given_password(url, k_variable).value(), "from the environment");
  url.parameters["password-file"] = write_file(dir / "file", "from the file", 0600);
  EXPECT_EQ(given_password(url, k_variable).value(), "from the file");
  url.parameters["password-file"] = dir / "missing";
  EXPECT_FALSE(given_password(url, k_variable));
  url.password = "";
  EXPECT_EQ(given_password(url, k_variable).value(), "");
  ::unsetenv(k_variable);
}

TEST(PasswordFile, HoldsThePasswordInItsFirstLine)
{
  const TempDir dir;
  for (const char* const text : {"s3 cret", "s3 cret\n", "s3 cret\r\n", "s3 cret\nmore\n"}) {
    EXPECT_EQ(read_password_file(write_file(dir / "file", text, 0600)).value(), "s3 cret");
  }
  ASSERT_EQ(::chmod((dir / "file").c_str(), 0400), 0);
  EXPECT_TRUE(read_password_file(dir / "file"));
  std::filesystem::create_symlink(dir / "file", dir / "link");
  EXPECT_TRUE(read_password_file(dir / "link"));
}

TEST(PasswordFile, IsPrivate)
{
  const TempDir dir;
  const auto file = write_file(dir / "file", "s3cret\n", 0600);
  for (const ::mode_t mode : {0640U, 0604U, 0620U, 0602U, 0610U, 0644U}) {
    ASSERT_EQ(::chmod(file.c_str(), mode), 0);
    const auto password = read_password_file(file);
    ASSERT_FALSE(password) << std::oct << mode;
    EXPECT_EQ(password.error().status, 64);
    EXPECT_THAT(password.error().text, EndsWith(": its group or other users have access to it"));
    EXPECT_EQ(password.error().hint, "chmod 600 makes it private");
  }
}

TEST(PasswordFile, BelongsToItsUserOrToRoot)
{
  if (::geteuid() != 0) { GTEST_SKIP() << "needs root"; }
  const TempDir dir;
  const auto file = write_file(dir / "file", "s3cret\n", 0600);
  ASSERT_EQ(::chown(file.c_str(), 12345, 0), 0);
  EXPECT_THAT(complaint_about(file), EndsWith(": it belongs to another user"));
}

TEST(PasswordFile, IsARegularFileAndNeverWaitedFor)
{
  const TempDir dir;
  ASSERT_EQ(::mkfifo((dir / "fifo").c_str(), 0600), 0);
  EXPECT_THAT(complaint_about(dir / "fifo"), EndsWith(": it is not a regular file"));
  EXPECT_THAT(complaint_about(dir.path()), EndsWith(": it is not a regular file"));
  EXPECT_THAT(complaint_about("/dev/zero"), EndsWith(": it is not a regular file"));
  EXPECT_THAT(complaint_about(dir / "nothing"), EndsWith(": No such file or directory (ENOENT)"));
}

TEST(PasswordFile, HasALineThatCanBeAPassword)
{
  const TempDir dir;
  EXPECT_THAT(complaint_about(write_file(dir / "file", "", 0600)), EndsWith(": its first line is empty"));
  EXPECT_THAT(complaint_about(write_file(dir / "file", "\r\nx\n", 0600)), EndsWith(": its first line is empty"));
  EXPECT_THAT(
    complaint_about(write_file(dir / "file", std::string(5000, 'x'), 0600)), EndsWith(" too long for a password"));
}

} // namespace
} // namespace lockrun::testing
