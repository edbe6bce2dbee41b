#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace lockrun::testing {

// Between an engine and the HTTP gateway of etcd: what goes through can get lost, come late or come twice.
class EtcdProxy {
public:
  struct Request {
    std::string path;
    std::string body;
    int number; // of those with this path, from 1
  };
  enum class Fate {
    pass,
    lose_request, // the connection is closed before etcd is asked
    lose_answer,  // … after it
    swallow,      // etcd is asked, and for everything that follows on its connection, which stays silent
    keep,         // the connection stays silent, and etcd is asked by deliver()
    twice,        // etcd is asked twice; the second answer is that of the client
    hold_back,    // it stays on its way, with all that follows on its connection, until let_go()
  };
  using Judge = std::function<Fate(const Request&)>; // called by one thread at a time

  // `etcd` is its HOST:PORT on this machine.
  EtcdProxy(const std::string& etcd, Judge judge);
  ~EtcdProxy();
  EtcdProxy(const EtcdProxy&) = delete;
  EtcdProxy& operator=(const EtcdProxy&) = delete;

  const std::string& endpoint() const;
  std::string url(const std::string& name) const { return "etcd://" + endpoint() + "/" + name; }

  int count(const std::string& path) const;
  // When the first one came, on the elapsed clock.
  std::chrono::nanoseconds first(const std::string& path) const;

  // Asks etcd what was kept. Its answers.
  std::vector<std::string> deliver();
  int kept() const;

  // Etcd is asked what was held back, in the order of each connection and even if the client is gone. held_back() is on
  // how many connections that is still to be done, or under way with a client that is there.
  void let_go();
  int held_back() const;

private:
  struct State;
  std::unique_ptr<State> m_state;
};

} // namespace lockrun::testing
