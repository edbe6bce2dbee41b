// CLI11 includes <iostream>, and so the program would set up eight streams and a locale before main(): 45,000
// instructions, twice what all the rest of a start costs. We use none of the eight. String streams, which make the text
// of --help, set up what they need by themselves.
//
// A program linked with -Wl,--wrap=_ZNSt8ios_base4InitC1Ev (LOCKRUN_LATE_INIT) calls this instead of the
// constructor std::ios_base::Init::Init(). In such a program std::cout, cerr and clog must not be touched.
extern "C" void __wrap__ZNSt8ios_base4InitC1Ev(void*); // NOLINT(readability-identifier-naming): the linker's name
extern "C" void __wrap__ZNSt8ios_base4InitC1Ev(void*) {}
