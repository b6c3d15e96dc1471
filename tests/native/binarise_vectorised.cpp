// Compiled by a test that reads what the compiler says about the loops.

#include <cstddef>

#include "tumortrace/binarise.hpp"

tumortrace::RowContent compiled(const float* logits, std::size_t columns, tumortrace::Word* words);

tumortrace::RowContent compiled(const float* logits, std::size_t columns, tumortrace::Word* words) {
    return tumortrace::detail::pack_above(logits, columns, 0.0F, words);
}
