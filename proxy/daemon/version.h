/* version: of the program, as --version, the status and the man pages say it. */
#ifndef SPLITMX_PROXY_DAEMON_VERSION_H
#define SPLITMX_PROXY_DAEMON_VERSION_H

#define SPLITMX_VERSION "0.1.0"

#endif
