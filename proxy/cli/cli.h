/*
 * cli: the commands (design: section 8). Each takes its name and what follows it (argv[0] is the
 * name) and returns the exit status.
 */
#ifndef SPLITMX_PROXY_CLI_CLI_H
#define SPLITMX_PROXY_CLI_CLI_H

#define CLI_OK     0
#define CLI_FAILED 1
#define CLI_USAGE  64
#define CLI_CONFIG 78

#define CLI_DEFAULT_CONFIG "/etc/splitmx/splitmx.yaml"

int cli_run(int argc, char **argv);
int cli_check(int argc, char **argv);
int cli_route(int argc, char **argv);
int cli_import(int argc, char **argv);
int cli_reload(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_ledger(int argc, char **argv);
int cli_doctor(int argc, char **argv);
int cli_healthcheck(int argc, char **argv);

#endif
