#include "sys/passwd.hpp"

#include "support/temp_dir.hpp"

#include <gtest/gtest.h>

namespace lockrun::testing {
namespace {

TEST(Passwd, NamesUsersAndNobodyElse)
{
  const TempDir dir;
  const auto file = write_file(dir / "passwd", "root:x:0:0:root:/root:/bin/bash\n"
                                               "\n"
                                               "broken\n"
                                               ":x:7:7::/:\n"
                                               "+nis::::::\n"
                                               "zero:x:00:0::/:\n"
                                               "ada:x:1000:1000:Ada Lovelace,,,:/home/ada:/bin/sh\n"
                                               "last:x:4294967294:0::/:/bin/false");
  const auto name = [&](uid_t user) { return sys::user_name(user, file.c_str()); };
  EXPECT_EQ(name(0), "root");
  EXPECT_EQ(name(1000), "ada");
  EXPECT_EQ(name(4294967294U), "last");
  EXPECT_EQ(name(7), std::nullopt);
  EXPECT_EQ(name(100), std::nullopt);
  EXPECT_EQ(sys::user_name(0, (dir / "missing").c_str()), std::nullopt);
}

} // namespace
} // namespace lockrun::testing
