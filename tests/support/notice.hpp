#pragma once

namespace lockrun::testing {

// A pipe's two ends, close-on-exec.
struct Pipe {
  Pipe();
  ~Pipe();
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  void close_read() noexcept;
  void close_write() noexcept;
  void fill() const; // a write would block now
  int read_end = -1;
  int write_end = -1;
};

// One process tells another that something has happened, as often as it likes.
class Notice {
public:
  void give() const;
  bool await() const; // false: nothing came for so long that nothing will
  void wait() const;  // for as long as it takes
  int read_end() const noexcept { return m_pipe.read_end; }
  int write_end() const noexcept { return m_pipe.write_end; }

private:
  Pipe m_pipe;
};

// Many processes wait behind it and are let go at once.
class Gate {
public:
  void wait();                          // in each of the processes; the gate is closed for good in it
  void open() { m_pipe.close_write(); } // in the process that made it
  int read_end() const noexcept { return m_pipe.read_end; } // end of file when it is open

private:
  Pipe m_pipe;
};

} // namespace lockrun::testing
