# What makes the static program start quickly and stay small, beyond what everybody does.
#
# Each trick says what it saves and when it can go: bytes of the release program, and user instructions of `lockrun LOCK true` (31,700 in all),
# on x86-64 with g++ 12. Each is tried by itself: a small program is compiled, linked and run with it. Where that fails, the trick is left out,
# which one line of the configuration says; the program is only a little slower or larger then. -DLOCKRUN_TRICK_NAME=OFF leaves one out, too.
#
# Needs lockrun_flags and the libraries to be found. lockrun_startup_code(target...) and lockrun_startup_link(target) apply what fits.

include(CheckIPOSupported)
set(startup_tricks ${CMAKE_CURRENT_LIST_DIR}/tricks) # programs to try them with

# lockrun_try_trick(NAME TEXT [SOURCES file...] [FLAGS flag...] [LINK_FLAGS flag...] [LIBRARIES target...], imported targets,
# sets LOCKRUN_TRICK_NAME: whether the program of these sources returns 0, as it should. TEXT names what is left out otherwise.
function(lockrun_try_trick name text)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "" "SOURCES;FLAGS;LINK_FLAGS;LIBRARIES")
  if(NOT DEFINED LOCKRUN_TRICK_${name})
    if(NOT arg_SOURCES)
      set(arg_SOURCES ${startup_tricks}/any.cpp)
    endif()
    set(how SOURCES ${arg_SOURCES} COMPILE_DEFINITIONS ${arg_FLAGS} LINK_OPTIONS ${startup_link} ${arg_LINK_FLAGS}
      LINK_LIBRARIES ${arg_LIBRARIES} CXX_STANDARD 20 NO_CACHE)
    set(CMAKE_TRY_COMPILE_CONFIGURATION ${CMAKE_BUILD_TYPE})
    set(CMAKE_POSITION_INDEPENDENT_CODE ${LOCKRUN_STATIC_PIE})
    set(status 0)
    if(CMAKE_CROSSCOMPILING AND NOT CMAKE_CROSSCOMPILING_EMULATOR)
      try_compile(fits ${how})
    else()
      try_run(status fits ${how})
    endif()
    if(NOT fits OR NOT status STREQUAL "0")
      set(fits OFF)
    endif()
    set(LOCKRUN_TRICK_${name} ${fits} CACHE BOOL "${text}")
    mark_as_advanced(LOCKRUN_TRICK_${name})
  endif()
  if(NOT LOCKRUN_TRICK_${name})
    message(STATUS "left out (LOCKRUN_TRICK_${name}): ${text}")
  endif()
endfunction()

# The same for what needs nothing but flags of the linker: these go into LIST if the trick fits.
macro(lockrun_try_flags list name text)
  lockrun_try_trick(${name} ${text} LINK_FLAGS ${ARGN})
  if(LOCKRUN_TRICK_${name})
    list(APPEND ${list} ${ARGN})
  endif()
endmacro()

# --- One file without relocations -------------------------------------------------------------------------------------------------

set(startup_link "")      # of every program
set(startup_link_more "") # of lockrun

# Shared libraries make a call 1.5 times slower than flock(1).
if(LOCKRUN_STATIC AND LOCKRUN_STATIC_PIE)
  lockrun_try_flags(startup_link STATIC_PIE "static programs at random addresses, which need archives of the C and C++ libraries" -static-pie)
  set(LOCKRUN_STATIC ${LOCKRUN_TRICK_STATIC_PIE})
elseif(LOCKRUN_STATIC)
  lockrun_try_flags(startup_link STATIC "static programs, which need archives of the C and C++ libraries" -static)
  set(LOCKRUN_STATIC ${LOCKRUN_TRICK_STATIC})
endif()

if(LOCKRUN_STATIC AND NOT LOCKRUN_STATIC_PIE)
  # One mapping for code and constants: six page faults less, of fifteen that a call had more than the smallest C program.
  lockrun_try_flags(startup_link_more ONE_MAPPING "code and constants in one mapping" -Wl,-z,noseparate-code)
  # Nothing that becomes read-only after the start: five page faults less, and 3 % of a call's time.
  lockrun_try_flags(startup_link_more NO_RELRO "no memory that becomes read-only after the start" -Wl,-z,norelro)
endif()

# --- Smaller code -----------------------------------------------------------------------------------------------------------------

# Functions and data that nothing needs are left out.
lockrun_try_trick(SECTIONS "functions and data in sections of their own, of which only the needed ones are linked"
  FLAGS -ffunction-sections -fdata-sections LINK_FLAGS -Wl,--gc-sections)
if(LOCKRUN_TRICK_SECTIONS)
  target_compile_options(lockrun_flags INTERFACE $<$<CONFIG:Release>:-ffunction-sections> $<$<CONFIG:Release>:-fdata-sections>)
  target_link_options(lockrun_flags INTERFACE $<$<CONFIG:Release>:-Wl,--gc-sections>)
endif()

# fmt without fractions, which are 30 kB, without numbers of 128 bits, 4 kB, and without std::locale, which only "{:L}" needs: it groups digits
# with commas. In all builds, so that none compiles where a fraction is formatted.
set(flags -DFMT_USE_FLOAT=0 -DFMT_USE_DOUBLE=0 -DFMT_USE_LONG_DOUBLE=0 -DFMT_REDUCE_INT_INSTANTIATIONS=1 -DFMT_USE_INT128=0
  -DFMT_STATIC_THOUSANDS_SEPARATOR=',')
lockrun_try_trick(SMALL_FMT "fmt without fractions and locales" FLAGS ${flags} LIBRARIES fmt::fmt-header-only
  SOURCES ${startup_tricks}/fmt.cpp)
if(LOCKRUN_TRICK_SMALL_FMT)
  target_compile_options(lockrun_flags INTERFACE ${flags})
endif()

if(LOCKRUN_STATIC)
  # No exception of ours exists, and one of the C++ library ends the program (src/startup/terminate.cpp), which needs neither tables nor code for
  # those on the way. CLI11 catches its own: its units keep them.
  set(startup_no_exceptions -fno-exceptions -fno-asynchronous-unwind-tables -DSPDLOG_NO_EXCEPTIONS)
  get_target_property(directories spdlog::spdlog_header_only INTERFACE_INCLUDE_DIRECTORIES)
  list(TRANSFORM directories PREPEND -I)
  lockrun_try_trick(NO_EXCEPTIONS "code without exceptions" SOURCES ${startup_tricks}/no_exceptions.cpp
    FLAGS ${startup_no_exceptions} -DSPDLOG_FMT_EXTERNAL -DSPDLOG_HEADER_ONLY ${directories}
    LIBRARIES fmt::fmt-header-only nlohmann_json::nlohmann_json tl::expected)
endif()

# Optimized as a whole the program is 3 % smaller. In one part: parts that are optimized side by side would share nothing with one another.
if(LOCKRUN_STATIC AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  check_ipo_supported(RESULT fits LANGUAGES CXX)
  if(NOT fits)
    set(LOCKRUN_TRICK_LTO OFF)
  endif()
  set(startup_lto -flto-partition=one)
  lockrun_try_trick(LTO "optimization of the whole program when it is linked" FLAGS -flto LINK_FLAGS -flto ${startup_lto})
endif()

# --- Not before main() ------------------------------------------------------------------------------------------------------------

if(LOCKRUN_LATE_INIT)
  # The standard streams, which CLI11 includes: 45,000 instructions, and 13 kB. src/startup/iostream_init.cpp puts an empty function in the place
  # of the constructor that makes them. Can go when CLI11 does not include <iostream>.
  lockrun_try_trick(NO_STREAMS "no standard streams made at the start"
    SOURCES ${startup_tricks}/no_streams.cpp ${PROJECT_SOURCE_DIR}/src/startup/iostream_init.cpp LINK_FLAGS -Wl,--wrap=_ZNSt8ios_base4InitC1Ev)
  if(LOCKRUN_TRICK_NO_STREAMS)
    # The C++ library refers to the function, after the archive that has ours: -u fetches it from there before.
    list(APPEND startup_link_more -Wl,--wrap=_ZNSt8ios_base4InitC1Ev -Wl,-u,__wrap__ZNSt8ios_base4InitC1Ev)
  endif()

  # The objects of CLI11's headers: 5,000 instructions. Can go when the headers have none.
  set(startup_script ${PROJECT_SOURCE_DIR}/src/startup/late_init.ld)
  lockrun_try_trick(LATE_CLI11 "CLI11's objects made only when they are needed"
    SOURCES ${startup_tricks}/late_cli11.cpp LINK_FLAGS -Wl,-T,${startup_script})
  if(LOCKRUN_TRICK_LATE_CLI11)
    list(APPEND startup_link_more -Wl,-T,${startup_script})
  endif()

  # The handler of the C++ library for an exception that nobody caught, with a demangler: 48 kB. src/startup/terminate.cpp defines the variable that
  # the library has it in. Can go when std::set_terminate() keeps the other one out of a static program.
  lockrun_try_trick(TERMINATE "our own words for an exception that nothing catches"
    SOURCES ${startup_tricks}/terminate.cpp)
  if(LOCKRUN_TRICK_TERMINATE)
    list(APPEND startup_link_more -Wl,-u,_ZN10__cxxabiv119__terminate_handlerE)
  endif()
endif()

# --- Applied ----------------------------------------------------------------------------------------------------------------------

if(LOCKRUN_TRICK_NO_EXCEPTIONS)
  # They catch what CLI11 throws.
  set_property(SOURCE src/startup/cli11.cpp src/timeline/options.cpp APPEND PROPERTY COMPILE_OPTIONS -fexceptions)
endif()
if(LOCKRUN_TRICK_LTO)
  set_property(SOURCE src/startup/cli11.cpp APPEND PROPERTY COMPILE_OPTIONS -fno-lto) # late_init.ld takes it by its name
  # Small functions that many units share are inlined into none of them for the sake of size, except where every call passes.
  set_property(SOURCE src/cli/run.cpp src/cli/lock_environment.cpp src/lock/wanted.cpp src/kernel/flock.cpp src/kernel/kernel_lock.cpp
    src/sys/file.cpp src/sys/process.cpp src/sys/signal.cpp APPEND PROPERTY COMPILE_OPTIONS "$<$<CONFIG:Release>:-O2>")
endif()

# For lockrun, and the libraries of which it is made.
function(lockrun_startup_code)
  if(LOCKRUN_TRICK_NO_EXCEPTIONS)
    foreach(target IN LISTS ARGN)
      target_compile_options(${target} PRIVATE ${startup_no_exceptions})
    endforeach()
  endif()
  if(LOCKRUN_TRICK_LTO)
    set_property(TARGET ${ARGN} PROPERTY INTERPROCEDURAL_OPTIMIZATION ON)
  endif()
  if(LOCKRUN_STATIC_PIE)
    set_property(TARGET ${ARGN} PROPERTY POSITION_INDEPENDENT_CODE ON)
  endif()
endfunction()

# For lockrun itself.
function(lockrun_startup_link target)
  target_link_options(${target} PRIVATE ${startup_link} ${startup_link_more})
  if(LOCKRUN_TRICK_LTO)
    target_link_options(${target} PRIVATE ${startup_lto})
  endif()
  if(LOCKRUN_TRICK_LATE_CLI11)
    set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS ${startup_script})
  endif()
endfunction()
