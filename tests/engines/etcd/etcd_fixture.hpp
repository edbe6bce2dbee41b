#pragma once

#include "support/engine_driver.hpp"
#include "support/etcd_servers.hpp"

#include <cstdint>
#include <optional>
#include <string>

#include <gtest/gtest.h>

namespace lockrun::testing {

using protocol::Message;

inline std::string text(const Message& message, const char* key)
{
  return std::string(message.text(key).value_or(""));
}

inline std::int64_t number(const Message& message, const char* key)
{
  return message.number(key).value_or(-1);
}

// The engine program against real servers.
class Etcd : public ::testing::Test {
protected:
  void SetUp() override
  {
    if (const auto reason = no_etcd()) { GTEST_SKIP() << *reason; }
    etcd.emplace(setup());
  }

  virtual EtcdSetup setup() const { return {}; }

  EngineDriver engine(const std::string& name = "lock") const { return engine_at(etcd->url(name)); }

  static EngineDriver engine_at(const std::string& url, Start start = {})
  {
    start.err = k_inherited;
    start.environment.try_emplace("ETCDCTL_USER", std::nullopt);
    return {LOCKRUN_ENGINE, url, start};
  }

  static inline const Redirect k_inherited{Redirect::Kind::inherited};

  // Holds it, without waiting.
  EngineDriver holder(const std::string& wishes = {}, const std::string& name = "lock") const
  {
    EngineDriver driver = engine(name);
    driver.acquire(wishes);
    const Message answer = driver.hear("HELD", "FAIL");
    EXPECT_TRUE(answer.is("HELD")) << format(answer);
    return driver;
  }

  // Waits, and is in the queue.
  EngineDriver waiter(const std::string& wishes = {}) const
  {
    EngineDriver driver = engine();
    driver.acquire(wishes);
    EXPECT_TRUE(driver.hear("WAITING", "HELD").is("WAITING"));
    return driver;
  }

  Message failure_of(const std::string& wishes) const
  {
    EngineDriver driver = engine();
    driver.acquire(wishes);
    const Message failure = driver.hear("FAIL", "HELD");
    driver.hang_up();
    (void)driver.wait(); // it leaves the queue
    return failure;
  }

  static void release(EngineDriver& driver)
  {
    driver.say("RELEASE");
    EXPECT_TRUE(driver.hear("RELEASED").is("RELEASED"));
    EXPECT_EQ(driver.wait(), exited(0));
  }

  std::optional<EtcdServers> etcd;
};

} // namespace lockrun::testing
