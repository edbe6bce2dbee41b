#pragma once

#include <optional>
#include <string>
#include <vector>

namespace lockrun::testing {

// Why a test cannot have networks of its own; none when it can.
std::optional<std::string> no_network();

// Why a test cannot have connections reset (`ss -K`); none when it can.
std::optional<std::string> no_resets();

// Hosts on one wire, each a network namespace with an address of its own, and a hub from which all of them can be seen.
// Nothing of it touches the machine's own network. Removed with the object.
class Network {
public:
  explicit Network(const std::vector<std::string>& hosts);
  ~Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  std::string address(const std::string& host) const;
  std::vector<std::string> run_on(const std::string& host) const; // what to put before a command
  std::vector<std::string> run_on_hub() const;

  // Nothing of the host's gets through, in neither direction, and nobody is told.
  void cut_off(const std::string& host);
  // It hears the others, who do not hear it.
  void silence(const std::string& host);
  // The others hear it, and it does not hear them.
  void deafen(const std::string& host);
  // All its connections with others are reset.
  void reset(const std::string& host);
  void heal();

private:
  std::string space(const std::string& name) const;
  void ip(const std::string& arguments) const;
  void misdirect(const std::string& host, const std::string& other);

  std::string m_prefix;
  std::vector<std::string> m_hosts;
};

// While it is there, the thread that made it, and what it starts meanwhile, has a network of its own: loopback, and a
// wire for 10.78.0.0/24 without anybody at the other end. What is sent to an address there gets lost without a word,
// unless it is one of ours.
class OwnNetwork {
public:
  OwnNetwork();
  ~OwnNetwork();
  OwnNetwork(const OwnNetwork&) = delete;
  OwnNetwork& operator=(const OwnNetwork&) = delete;

  void add(const std::string& address) const;    // makes it one of ours
  void remove(const std::string& address) const; // which it was; its connections fall silent

private:
  int m_former = -1; // the network that we come from
};

} // namespace lockrun::testing
