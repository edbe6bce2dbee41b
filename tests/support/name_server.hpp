#pragma once

#include "support/process.hpp"
#include "support/temp_dir.hpp"

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace lockrun::testing {

// A DNS server on port 53 whose script answers each question, or does not. Only root can have one, and only in an
// OwnNetwork is nobody in its way.
class NameServer {
public:
  enum class Type { a = 1, aaaa = 28 };
  struct Question {
    std::string name;
    Type type;
    int number; // of those for this name and type, from 1
  };
  // What is answered; of these addresses those of the question's type.
  enum class Code { ok = 0, server_failure = 2, no_such_name = 3, refused = 5 };
  // Can be kept, and called later, more than once or never; not after the server's end.
  using Reply = std::function<void(Code, const std::vector<std::string>& addresses)>;
  using Script = std::function<void(const Question&, const Reply&)>;

  NameServer(const std::string& address, Script script);
  ~NameServer();
  NameServer(const NameServer&) = delete;
  NameServer& operator=(const NameServer&) = delete;

  // So far: all of them, and those for a name and type.
  int questions() const;
  int questions(const std::string& name, Type type) const;

private:
  void serve();

  Script m_script;
  int m_socket = -1;
  int m_end[2] = {-1, -1}; // a pipe that closes
  mutable std::mutex m_mutex;
  std::map<std::pair<std::string, Type>, int> m_count;
  std::thread m_thread; // the last: it serves until it is told to end
};

// To every question.
NameServer::Script always(const std::vector<std::string>& addresses);
NameServer::Script always(NameServer::Code code);
NameServer::Script silence();

// With nothing but these name servers, and localhost, to look up names with. `more` are further lines of
// resolv.conf(5).
Start with_name_servers(
  const TempDir& directory, const std::vector<std::string>& addresses, const std::string& more = {});

} // namespace lockrun::testing
