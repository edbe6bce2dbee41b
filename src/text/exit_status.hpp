#pragma once

namespace lockrun {

// The numbers of sysexits.h and of every shell that we answer with; the manual's table is made of the same.
enum ExitCode : int {
  k_success = 0,
  k_usage = 64,         // EX_USAGE: bad options
  k_bad_data = 65,      // EX_DATAERR: the caller's descriptor cannot be locked
  k_no_input = 66,      // EX_NOINPUT: no lock file, with --no-create
  k_unavailable = 69,   // EX_UNAVAILABLE: this file system cannot lock
  k_software = 70,      // EX_SOFTWARE: anything else
  k_os_error = 71,      // EX_OSERR: no process, no descriptor, no memory
  k_cannot_create = 73, // EX_CANTCREAT: the lock file cannot be made
  k_io_error = 74,      // EX_IOERR: the lock cannot be had for a reason of the file system
  k_busy = 75,          // EX_TEMPFAIL, or what -E says
  k_lost = 76,          // EX_PROTOCOL: the lock of an engine was lost while the command ran
  k_no_permission = 77, // EX_NOPERM
  k_overtime = 124,     // --max-hold passed, ended by TERM; as timeout(1)
  k_cannot_execute = 126,
  k_not_found = 127,
  k_overtime_killed = 137,
  k_signalled = 128, // plus the signal's number
};

} // namespace lockrun
