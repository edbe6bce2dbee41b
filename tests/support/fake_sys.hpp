#pragma once

#include <any>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace lockrun::testing {

// A kernel that answers what a test has written down. tests/support/fake_sys.cpp, which scripted tests link instead of
// src/sys, has the same declarations; every function takes the next answer that was given for its name and notes the
// call. Without an answer it succeeds: open() and duplicate() with a descriptor of /dev/null, the locks with
// `acquired`, stat() and fstat() with one and the same regular file, clocks with 0, everything else with nothing or 0.
// Threads are never started. exit_now() throws ExitNow. One at a time; it is the current one while it exists.
class FakeSys {
public:
  FakeSys();
  ~FakeSys();
  FakeSys(const FakeSys&) = delete;
  FakeSys& operator=(const FakeSys&) = delete;

  // The next answer of `function`: an errno; its usual success; or a value, of the type within its Result.
  void fails(const std::string& function, int code) { add(function, {code, {}, {}}); }
  void succeeds(const std::string& function) { add(function, {}); }
  template <class T>
  void answers(const std::string& function, T value)
  {
    add(function, {0, std::any(std::move(value)), {}});
  }
  // Does something first, and then succeeds as usual.
  void does(const std::string& function, std::function<void()> deed) { add(function, {0, {}, std::move(deed)}); }

  // Every call so far, as `open('/x', O_RDONLY|O_NONBLOCK)`; descriptors and pointers are left out.
  const std::vector<std::string>& calls() const noexcept { return m_calls; }
  // Those of one function.
  std::vector<std::string> calls(const std::string& function) const;
  // Answers that nobody has asked for.
  std::size_t unused_answers() const;

  struct Answer {
    int code = 0;
    std::any value;
    std::function<void()> deed;
  };
  Answer take(const std::string& function, const std::string& arguments);

private:
  void add(const std::string& function, Answer answer) { m_answers[function].push_back(std::move(answer)); }

  std::map<std::string, std::deque<Answer>> m_answers;
  std::vector<std::string> m_calls;
};

struct ExitNow {
  int status;
};

// Open descriptors of this process, to see that none is left.
int open_descriptors();

} // namespace lockrun::testing
