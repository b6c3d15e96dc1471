# tumortrace_compile(TARGET): the warnings and options that every target of the native core is compiled with.
#
# The architecture's baseline only, no -march=native: a wheel runs on a CPU other than the one that built it.
function(tumortrace_compile target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wconversion $<$<CONFIG:Release>:-O3>)
  if(TUMORTRACE_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=address,undefined -fno-sanitize-recover=all)
    target_link_options(${target} PRIVATE -fsanitize=address,undefined)
  endif()
endfunction()
