/* SPDX-License-Identifier: Apache-2.0 */
/* Completion for bash, zsh and fish, made from the tables of commands and options. A shell's frame
 * takes one row a command: its words, with "=" behind an option that takes a value. */
#include <stdio.h>
#include <string.h>

#include "cli.h"

#define USAGE "completion bash|zsh|fish"

static const struct frame {
    const char *shell, *start, *row, *row_end, *finish; /* row: name, words; finish: the names */
} frames[] = {
    { "bash",
      "_hookline() {\n"
      "    local command=${COMP_WORDS[1]} last=${COMP_WORDS[COMP_CWORD - 1]} known='' words\n"
      "    case $command in\n",
      "    %s) known=' %s ", "--help ' ;;\n",
      "    esac\n"
      "    words=${known//= / }\n"
      "    if [ \"$COMP_CWORD\" = 1 ]; then\n"
      "        words='%s'\n"
      "    elif [ \"$last\" = --provider ] || [ \"$last\" = providers ]; then\n"
      "        words=$(\"$1\" providers 2>/dev/null)\n"
      "        [ \"$last\" != providers ] || words+=\" ${known//= / }\"\n"
      "    elif [ \"${known/ \"$last\"= /}\" != \"$known\" ]; then\n"
      "        words=''\n"
      "    fi\n"
      "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\")\n"
      "}\n"
      "complete -o default -F _hookline hookline\n" },
    { "zsh",
      "#compdef hookline\n"
      "local command=$words[2] last=$words[CURRENT-1] known=''\n"
      "case $command in\n",
      "%s) known=' %s ", "--help ' ;;\n",
      "esac\n"
      "if (( CURRENT == 2 )); then\n"
      "    compadd -- %s\n"
      "elif [[ $known == *\" $last= \"* && $last != --provider ]]; then\n"
      "    _files\n"
      "else\n"
      "    [[ $last != --provider && $last != providers ]] ||\n"
      "        compadd -- ${(f)\"$($words[1] providers 2>/dev/null)\"}\n"
      "    [[ $last == --provider ]] || compadd -- ${${=known}%%=}\n"
      "    [[ $words[CURRENT] == -* || $last == --provider ]] || _files\n"
      "fi\n" },
    { "fish",
      "function __hookline_words\n"
      "    set -l typed (commandline -opc)\n"
      "    set -l last $typed[-1]\n"
      "    set -l known\n"
      "    switch \"$typed[2]\"\n",
      "    case %s\n        set known %s ", "--help\n",
      "    end\n"
      "    if test (count $typed) = 1\n"
      "        printf '%%s\\n' %s\n"
      "    else if test \"$last\" = --provider\n"
      "        $typed[1] providers 2>/dev/null\n"
      "    else if contains -- \"$last=\" $known\n"
      "        __fish_complete_path (commandline -ct)\n"
      "    else\n"
      "        test \"$last\" = providers; and $typed[1] providers 2>/dev/null\n"
      "        string replace -r '=$' '' -- $known\n"
      "        string match -q -- '-*' (commandline -ct); or __fish_complete_path (commandline "
      "-ct)\n"
      "    end\n"
      "end\n"
      "complete -c hookline -f -a '(__hookline_words)'\n" },
};

static void print(const struct frame *f)
{
    struct buf names = BUF_INIT;

    fputs(f->start, stdout);
    for (const struct command *c = commands; c->name; c++) {
        char *argv[] = { (char *)c->name, (char *)"--options", NULL };

        buf_printf(&names, "%s%s", names.n ? " " : "", c->name);
        printf(f->row, c->name, c->words ? c->words : "");
        c->run(2, argv);
        fputs(f->row_end, stdout);
    }
    buf_addc(&names, '\0');
    printf(f->finish, names.p);
    buf_free(&names);
}

int cmd_completion(int argc, char **argv)
{
    const struct option_row rows[] = { { 0 } };
    int left = options_take(argc, argv, rows, USAGE);

    if (left == -2)
        return EXIT_OK;
    for (size_t i = 0; left == 1 && i < ARRAY_LEN(frames); i++)
        if (!strcmp(argv[0], frames[i].shell)) {
            print(&frames[i]);
            return EXIT_OK;
        }
    if (left >= 0)
        fprintf(stderr, "usage: hookline %s\n", USAGE);
    return EXIT_BAD_USAGE;
}
