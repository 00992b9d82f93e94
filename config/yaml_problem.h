/*
 * yaml_problem: what libyaml complains of, and what it means to somebody who has never read YAML's
 * grammar.
 */
#ifndef SPLITMX_CONFIG_YAML_PROBLEM_H
#define SPLITMX_CONFIG_YAML_PROBLEM_H

#include <stdbool.h>

struct yaml_problem {
    const char *theirs;
    const char *ours;
    bool at_begin; /* told where the thing began that never came to its end */
};

/* NULL for one that has no better words than libyaml's; NULL is accepted. */
const struct yaml_problem *yaml_problem_find(const char *problem);

#endif
