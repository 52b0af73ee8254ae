"""completion: scripts for bash, zsh and fish, made from the parsers of the commands."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from datasync.cli.parser import Command, Parser, Positional, build_parser
from datasync.terminal.output import Output

__all__ = ["with_completion"]

# The options and positionals whose value is a file.
_FILES = ("FILE", "F", "A", "B")


def _flags(parser: Parser) -> list[argparse.Action]:
    return [action for action in parser._actions if action.option_strings]


def _takes_value(action: argparse.Action) -> bool:
    return action.nargs != 0


def _files(command: Command) -> bool:
    """Whether the command takes a file as a positional argument."""
    return any(positional.metavar in _FILES for positional in command.positionals)


def _words(command: Command) -> list[str]:
    """What a positional argument may be, where that is known."""
    return [choice for positional in command.positionals for choice in positional.choices or ()]


def _bash(commands: Sequence[tuple[Command, Parser]]) -> str:
    cases, values = [], []
    for command, parser in commands:
        flags = " ".join(option for action in _flags(parser) for option in action.option_strings)
        files = "-f" if _files(command) else ""
        cases.append(
            f'    {command.name}) words="{" ".join([flags, *_words(command)])}"; files="{files}" ;;'
        )
        for action in _flags(parser):
            if _takes_value(action):
                for option in action.option_strings:
                    if action.choices:
                        choices = " ".join(map(str, action.choices))
                        given = f'COMPREPLY=($(compgen -W "{choices}" -- "$current"))'
                    elif action.metavar in _FILES:
                        given = 'COMPREPLY=($(compgen -f -- "$current"))'
                    else:
                        given = "COMPREPLY=()"
                    values.append(f"    {command.name}:{option}) {given}; return ;;")
    everything = " ".join(["--help --version --debug", *(command.name for command, _ in commands)])
    return f"""# bash completion of datasync; use it with: source <(datasync completion bash)
_datasync() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}"
  local command="" words files word
  # bash takes --option=value apart
  [[ "$current" == "=" ]] && current=""
  [[ "$previous" == "=" ]] && previous="${{COMP_WORDS[COMP_CWORD-2]}}"
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case "$word" in -*) ;; *) command="$word"; break ;; esac
  done
  case "$command:$previous" in
{chr(10).join(values)}
  esac
  case "$command" in
{chr(10).join(cases)}
    *) words="{everything}"; files="" ;;
  esac
  COMPREPLY=($(compgen $files -W "$words" -- "$current"))
}}
complete -o filenames -F _datasync datasync"""


def _zsh(commands: Sequence[tuple[Command, Parser]]) -> str:
    cases = []
    for command, parser in commands:
        specs = []
        for action in _flags(parser):
            value = ""
            if action.choices:
                value = f":{action.metavar or 'value'}:({' '.join(map(str, action.choices))})"
            elif _takes_value(action):
                value = f":{action.metavar}:" + ("_files" if action.metavar in _FILES else "")
            for option in action.option_strings:
                # --option value and --option=value
                end = "=" if value and option.startswith("--") else ""
                specs.append(_quoted(f"{option}{end}[{_zsh_text(action.help)}]{value}"))
        words = _words(command)
        specs.append(
            _quoted(
                f"*::: :({' '.join(words)})"
                if words
                else "*: :_files"
                if _files(command)
                else "*: :"
            )
        )
        cases.append(f"    {command.name}) _arguments {' '.join(specs)} ;;")
    described = " ".join(
        _quoted(f"{command.name}:{_zsh_text(command.help)}") for command, _ in commands
    )
    return f"""#compdef datasync
# zsh completion of datasync; use it with: source <(datasync completion zsh)
_datasync() {{
  local -a commands
  commands=({described})
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  local command="$words[2]"
  shift words
  (( CURRENT-- ))
  case "$command" in
{chr(10).join(cases)}
  esac
}}
compdef _datasync datasync"""


def _fish(commands: Sequence[tuple[Command, Parser]]) -> str:
    lines = [
        "# fish completion of datasync; use it with: datasync completion fish | source",
        "complete -c datasync -f",
    ]
    lines += [
        f"complete -c datasync -n __fish_use_subcommand -a {command.name} -d "
        f"{_fish_text(command.help)}"
        for command, _ in commands
    ]
    for command, parser in commands:
        seen = f"complete -c datasync -n '__fish_seen_subcommand_from {command.name}'"
        if _files(command):
            lines.append(f"{seen} -F")
        lines += [f"{seen} -a {word}" for word in _words(command)]
        for action in _flags(parser):
            names = [
                f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
                for option in action.option_strings
            ]
            value = ""
            if action.choices:
                value = f" -x -a '{' '.join(map(str, action.choices))}'"
            elif _takes_value(action):
                value = " -r -F" if action.metavar in _FILES else " -x"
            lines.append(f"{seen} {' '.join(names)}{value} -d {_fish_text(action.help)}")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _zsh_text(text: str | None) -> str:
    return (text or "").replace("[", "(").replace("]", ")").replace(":", " -")


def _fish_text(text: str | None) -> str:
    return "'" + (text or "").replace("\\", "\\\\").replace("'", "\\'") + "'"


_SHELLS = {"bash": _bash, "zsh": _zsh, "fish": _fish}


def with_completion(commands: Sequence[Command]) -> tuple[Command, ...]:
    """All commands, and the one that prints a script which completes them."""

    def run(options: argparse.Namespace) -> int:
        _, parsers = build_parser(everything)
        Output().line(
            _SHELLS[options.shell]([(command, parsers[command.name]) for command in everything])
        )
        return 0

    completion = Command(
        "completion",
        "print the completion script of a shell",
        (Positional("shell", "SHELL", "bash, zsh or fish", choices=tuple(_SHELLS)),),
        lambda parser: None,
        run,
        """
source <(datasync completion bash)
datasync completion fish > ~/.config/fish/completions/datasync.fish
""",
    )
    everything = (*commands, completion)
    return everything
