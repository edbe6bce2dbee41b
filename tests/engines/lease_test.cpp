#include "engines/lease.hpp"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace lockrun::testing {
namespace {

using engines::lease_from;
using engines::renewal_of;
using engines::try_limit;
using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(Lease, EndsOnePercentBeforeTheServerEndsItCountedFromTheQuestion)
{
  const auto lease = lease_from(seconds(100), seconds(30));
  EXPECT_EQ(lease.deadline, seconds(100) + milliseconds(29'700));
  EXPECT_EQ(lease.ttl, seconds(30));
}

TEST(Lease, IsRenewedAfterAThirdOfItsLife)
{
  EXPECT_EQ(
    renewal_of(lease_from(seconds(100), seconds(10))), seconds(100) + std::chrono::nanoseconds(seconds(10)) / 3);
  EXPECT_EQ(renewal_of(lease_from(seconds(100), seconds(30))), seconds(110));
  EXPECT_EQ(renewal_of(lease_from(seconds(100), seconds(600))), seconds(300));
}

// As long as no other grace was asked for, and if the server comes back just after it was asked for the last time.
TEST(Lease, IsRenewedSoEarlyThatAnOutageOfHalfItsLifeDoesNoHarm)
{
  for (const milliseconds ttl : {seconds(2), seconds(3), seconds(5), seconds(10), seconds(30), seconds(600)}) {
    const auto lease = lease_from(seconds(0), ttl);
    const auto margin = std::max(milliseconds(200), ttl / 50);
    const auto grace = std::min<milliseconds>(seconds(10), ttl / 15);
    EXPECT_LE(renewal_of(lease) + ttl / 2 + try_limit(ttl) / 2, lease.deadline - margin - grace) << ttl.count();
  }
}

// Whatever a server says.
TEST(Lease, IsNotRenewedWithoutEnd)
{
  for (const milliseconds ttl : {milliseconds(1'000), milliseconds(500)}) {
    EXPECT_GE(renewal_of(lease_from(seconds(100), ttl)), seconds(100) + ttl / 6) << ttl.count();
  }
}

// A row of the table in lockrun-engine-etcd(7): the numbers in it.
std::vector<double> numbers_in(std::string row)
{
  for (std::size_t at = 0; (at = row.find("\\ s")) != std::string::npos;) { row.erase(at, 3); }
  std::istringstream words(row);
  std::vector<double> numbers;
  for (std::string word; words >> word;) {
    if (word != ".It" && word != "Ta") { numbers.push_back(std::stod(word)); }
  }
  return numbers;
}

TEST(Lease, SurvivesTheOutagesThatTheManualNames)
{
  using Seconds = std::chrono::duration<double>;
  std::ifstream page(std::string(LOCKRUN_SOURCE_DIR) + "/man/lockrun-engine-etcd.7");
  int rows = 0;
  for (std::string line; std::getline(page, line);) {
    if (!line.starts_with(".It ") || line.find("\\ s Ta ") == std::string::npos) { continue; }
    SCOPED_TRACE(line);
    ++rows;
    const auto numbers = numbers_in(line);
    ASSERT_EQ(numbers.size(), 6U);
    const auto ttl = std::chrono::duration_cast<milliseconds>(Seconds(numbers[0]));
    const auto lease = lease_from(seconds(0), ttl);
    const auto kill = lease.deadline - std::max(milliseconds(200), ttl / 50);
    const auto term = kill - std::min<std::chrono::nanoseconds>(seconds(10), ttl / 15);
    const auto term_with_grace = kill - std::min<std::chrono::nanoseconds>(seconds(10), ttl / 3);
    const auto begin = renewal_of(lease) + std::max(milliseconds(250), try_limit(ttl) / 2);
    const double accuracy = numbers[1] < 10 ? 0.1 : 0.5;
    EXPECT_NEAR(numbers[1], Seconds(term - begin).count(), accuracy);
    EXPECT_NEAR(numbers[2], Seconds(term).count(), accuracy);
    EXPECT_NEAR(numbers[3], Seconds(kill).count(), accuracy);
    EXPECT_NEAR(numbers[4], Seconds(term_with_grace - begin).count(), accuracy);
    EXPECT_NEAR(numbers[5], Seconds(term_with_grace).count(), accuracy);
  }
  EXPECT_EQ(rows, 5);
}

TEST(Lease, LeavesTimeToAskOthers)
{
  EXPECT_EQ(try_limit(milliseconds(2'000)), milliseconds(250));
  EXPECT_EQ(try_limit(milliseconds(3'000)), milliseconds(300));
  EXPECT_EQ(try_limit(milliseconds(30'000)), milliseconds(2'000));
}

} // namespace
} // namespace lockrun::testing
