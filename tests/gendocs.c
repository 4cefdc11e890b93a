/* SPDX-License-Identifier: Apache-2.0 */
/* Prints what is generated from the tables: `gendocs example`, `gendocs reference`, `gendocs
 * providers` (see `make docs`). */
#include <stdio.h>
#include <string.h>

#include "cli/conf.h"

int main(int argc, char **argv)
{
    struct buf b = BUF_INIT;
    bool reference = argc > 1 && !strcmp(argv[1], "reference");

    if (argc > 1 && !strcmp(argv[1], "providers")) {
        source_docs(&b);
    } else if (reference) {
        buf_adds(&b, "# Configuration reference\n\nMade from the tables in the source by `make "
                     "docs`. Keys marked `reload` "
                     "are applied on SIGHUP; a change of\nany other key is rejected by a reload "
                     "and needs a restart.\n\n");
        cfg_reference(conf_keys(), &b);
    } else {
        buf_adds(&b, "# Every key of hookline with its default. Made by `make docs`; "
                     "docs/configuration.md says more.\n");
        cfg_example(conf_keys(), &b);
    }
    fwrite(b.p, 1, b.n, stdout);
    buf_free(&b);
    return 0;
}
