# tumortrace_compile(TARGET): the warnings and options that every target of the native core is compiled with.
#
# The architecture's baseline only, no -march=native: a wheel runs on a CPU other than the one that built it.

set(TUMORTRACE_SANITIZE OFF CACHE STRING "Build with sanitizers: OFF, address (and undefined behaviour), thread")
set_property(CACHE TUMORTRACE_SANITIZE PROPERTY STRINGS OFF address thread)
set(optimisation -O3)
if(TUMORTRACE_SANITIZE)
  # More would take three times as long to compile.
  set(optimisation -O1)
endif()
if(TUMORTRACE_SANITIZE STREQUAL "address")
  set(sanitizers -fsanitize=address,undefined -fno-sanitize-recover=all)
elseif(TUMORTRACE_SANITIZE STREQUAL "thread")
  set(sanitizers -fsanitize=thread)
elseif(TUMORTRACE_SANITIZE)
  message(FATAL_ERROR "TUMORTRACE_SANITIZE is ${TUMORTRACE_SANITIZE}; OFF, address or thread wanted.")
endif()

function(tumortrace_compile target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wconversion $<$<CONFIG:Release>:${optimisation}>
                                           ${sanitizers})
  target_link_options(${target} PRIVATE ${sanitizers})
endfunction()
