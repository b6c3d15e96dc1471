// Replays pseudo-random inputs, for compilers without a fuzzer.

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size);

int main() {
    constexpr int inputs = 2000;
    constexpr std::size_t most_bytes = 200;
    std::mt19937 random;
    for (int input = 0; input < inputs; ++input) {
        std::vector<std::uint8_t> bytes(random() % most_bytes);
        for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
        LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
    }
}
