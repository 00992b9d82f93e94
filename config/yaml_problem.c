#include "config/yaml_problem.h"

#include <stddef.h>
#include <string.h>

const struct yaml_problem *yaml_problem_find(const char *problem)
{
    static const struct yaml_problem table[] = {
        {"found character that cannot start any token",
         "a value cannot begin with this character; put the value in quotes, and indent with "
         "spaces, not with tabs",
         false},
        {"did not find expected alphabetic or numeric character",
         "text that begins with `*` or `&` needs quotes: \"*\"", false},
        {"mapping values are not allowed in this context",
         "a `:` is not expected here; a value that ends with `:` or holds one before a blank goes "
         "in "
         "quotes, else check the indentation",
         false},
        {"mapping keys are not allowed in this context",
         "a key is not expected here; check the indentation", false},
        {"block sequence entries are not allowed in this context",
         "a list entry (`- `) is not expected here; begin the list on a line of its own", false},
        {"could not find expected ':'", "expected `key: value`, found text without a `:` behind it",
         true},
        {"found unexpected ':'",
         "a `:` is not expected here; inside braces, text with `:`, `[` or `]` needs quotes",
         false},
        {"found unexpected end of stream", "this quote is never closed", true},
        {"found unexpected document indicator",
         "this quote is not closed before the `---` or `...` line below it", true},
        {"found unknown escape character",
         "unknown escape after `\\`; write `\\\\` for a backslash, or use single quotes", false},
        {"found a tab character that violates indentation",
         "a tab is used for indentation; use spaces", false},
        {"found a tab character where an indentation space is expected",
         "a tab is used for indentation; use spaces", false},
        {"did not find expected key",
         "expected a key; check the indentation and the quotes (text that begins with `[`, `{` or "
         "a "
         "quote needs quotes around the whole of it)",
         false},
        {"did not find expected '-' indicator",
         "expected a list entry (`- `); check the indentation", false},
        {"did not find expected ',' or ']'",
         "expected `,` or `]`; in a list in brackets, text with `[`, `]`, `{`, `}` or `,` needs "
         "quotes",
         false},
        {"did not find expected ',' or '}'",
         "expected `,` or `}`; inside braces, text with `[`, `]`, `{`, `}` or `,` needs quotes",
         false},
        {"did not find expected node content", "expected a value", false},
        {"did not find expected <document start>",
         "only one mapping is read, and it ended above; check the indentation", false},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (problem && strcmp(problem, table[i].theirs) == 0) {
            return &table[i];
        }
    }
    return NULL;
}
