#pragma once

#include "support/network.hpp"
#include "support/process.hpp"
#include "support/temp_dir.hpp"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace lockrun::testing {

// Why a test cannot have servers; none when it can.
std::optional<std::string> no_etcd();

struct EtcdSetup {
  int nodes = 1;
  std::vector<std::string> options{}; // for each of them
  bool uses_tls = false;              // with certificates of `directory`, see make_certificates()
  const Network* network = nullptr;   // its hosts n0, n1, … instead of this one
};

// etcd on loopback ports of its own, with its data in a temporary directory. Ended with the object.
class EtcdServers {
public:
  explicit EtcdServers(const EtcdSetup& setup = {});
  ~EtcdServers();

  const std::filesystem::path& directory() const { return m_directory.path(); }
  int size() const { return static_cast<int>(m_nodes.size()); }
  std::string endpoint(int node) const; // HOST:PORT
  std::string endpoints() const;        // all, with commas
  std::string url(const std::string& name) const { return "etcd://" + endpoints() + "/" + name; }

  // etcdctl on all of them.
  Finished etcdctl(const std::vector<std::string>& arguments) const;
  std::vector<std::string> etcdctl_argv(const std::vector<std::string>& arguments) const;
  std::vector<std::string> keys(const std::string& prefix) const;
  std::vector<std::string> leases() const;

  // By node; `start` waits until it answers.
  void signal(int node, int number);
  void kill(int node);
  void start(int node);
  pid_t pid(int node) const;
  void kill_all();
  void start_all();
  int leader() const;       // -1 while there is none
  void move_leader() const; // another node leads, in another term

  // Of one that is down: its data, which it begins without; or those that `etcdctl snapshot save` has written.
  void empty(int node);
  void restore(int node, const std::filesystem::path& snapshot);

private:
  struct Node;
  std::string host(int node) const;
  std::string peer(int node) const; // its URL for the others
  void launch(int node);
  bool answers(int node) const;
  std::vector<std::string> list(const std::vector<std::string>& arguments) const;
  void await(int node) const;

  EtcdSetup m_setup;
  TempDir m_directory;
  std::vector<std::unique_ptr<Node>> m_nodes;
};

// A CA, a server certificate for 127.0.0.1 and a client certificate: ca.pem, server.pem, server-key.pem, client.pem,
// client-key.pem; other-ca.pem has signed none of them.
void make_certificates(const std::filesystem::path& directory);

} // namespace lockrun::testing
