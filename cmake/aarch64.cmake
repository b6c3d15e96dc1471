# Toolchain for Arm's 64-bit CPUs under Linux, on a machine with another CPU; qemu, where it is installed, runs the tests.
#
# Debian's g++-aarch64-linux-gnu and qemu-user-static are what it takes. Unless told otherwise, code is for Jetson Orin.

set(TUMORTRACE_ARM_ARCH "armv8.2-a+dotprod+fp16" CACHE STRING "What code is compiled for, as GCC's -march names it")
set(TUMORTRACE_ARM_CPU "cortex-a76" CACHE STRING "What the tests run on, as qemu's -cpu names it")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES TUMORTRACE_ARM_ARCH TUMORTRACE_ARM_CPU)

set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CXX_FLAGS_INIT "-march=${TUMORTRACE_ARM_ARCH}")

set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)

find_program(QEMU_AARCH64 NAMES qemu-aarch64-static qemu-aarch64)
if(QEMU_AARCH64)
  set(CMAKE_CROSSCOMPILING_EMULATOR "${QEMU_AARCH64};-cpu;${TUMORTRACE_ARM_CPU};-L;/usr/aarch64-linux-gnu")
endif()
