// `pregate completion`: scripts that know the commands, and ask the programs for their options.
#include <cstdio>

#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "cli/command.h"
#include "common/config/option_set.h"

namespace pregate::cli {
namespace {

// @FIRST@ are the first words of all commands, @GROUPS@ the cases of those that have a second.
constexpr char kBash[] = R"sh(# pregate's completion for bash: source <(pregate completion bash)
_pregate() {
  local cur=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} at=1 words= name choices _
  local -a command=("$1")
  if [[ ${1##*/} == pregate ]]; then
    [[ ${COMP_WORDS[1]} == help ]] && at=2
    words="@FIRST@"
    ((COMP_CWORD > at)) && command+=("${COMP_WORDS[at]}") && words=
    case ${COMP_WORDS[at]} in
@GROUPS@
    esac
    if [[ -n $words ]]; then
      COMPREPLY=($(compgen -W "$words" -- "$cur"))
      return
    fi
  fi
  [[ $before == = ]] && before=${COMP_WORDS[COMP_CWORD-2]}
  [[ $cur == = ]] && cur=
  while IFS='|' read -r name choices _; do
    if [[ $cur == -* ]]; then
      words+=" $name"
    elif [[ $name == "$before" ]]; then
      words=$choices
    fi
  done < <("${command[@]}" --list-options 2>/dev/null)
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _pregate pregate pregate-router pregate-worker pregate-scheduler pregate-gateway
)sh";
constexpr char kBashGroup[] =
    R"sh(      @GROUP@)
        ((COMP_CWORD == at + 1)) && words="@WORDS@"
        ((COMP_CWORD > at + 1)) && command+=("${COMP_WORDS[at+1]}") ;;)sh";

constexpr char kZsh[] =
    R"sh(#compdef pregate pregate-router pregate-worker pregate-scheduler pregate-gateway
# pregate's completion for zsh: source <(pregate completion zsh)
_pregate() {
  local name choices text at=2
  local -a command=(${words[1]}) names
  if [[ ${words[1]:t} == pregate ]]; then
    [[ ${words[2]} == help ]] && at=3
    if ((CURRENT == at)); then compadd -- @FIRST@; return; fi
    command+=(${words[at]})
    case ${words[at]} in
@GROUPS@
    esac
  fi
  while IFS='|' read -r name choices text; do
    if [[ $name == ${words[CURRENT-1]} && -n $choices ]]; then compadd -- ${=choices}; return; fi
    names+=($name)
  done < <($command --list-options 2>/dev/null)
  if [[ ${words[CURRENT]} == -* ]]; then compadd -- $names; else _files; fi
}
compdef _pregate pregate pregate-router pregate-worker pregate-scheduler pregate-gateway
)sh";
constexpr char kZshGroup[] =
    R"sh(      @GROUP@)
        if ((CURRENT == at + 1)); then compadd -- @WORDS@; return; fi
        command+=(${words[at+1]}) ;;)sh";

constexpr char kFish[] = R"sh(# pregate's completion for fish: pregate completion fish | source
function __pregate_complete
  set -l command (commandline -opc)
  set -l current (commandline -ct)
  set -l before $command[-1]
  if test (path basename -- $command[1]) = pregate
    test "$command[2]" = help; and set -e command[2]
    set -l words
    switch (count $command)
      case 1
        set words @FIRST@
      case 2
        switch $command[2]
@GROUPS@
        end
    end
    if test (count $words) -gt 0
      printf '%s\n' $words
      return
    end
    set -l rest 2
    contains -- $command[2] @GROUPNAMES@; and set rest 3
    set command $command[1..$rest]
  else
    set command $command[1]
  end
  set -l options ($command --list-options 2>/dev/null)
  for option in $options
    set -l fields (string split '|' -- $option)
    if test "$fields[1]" = "$before" -a -n "$fields[2]"
      string split ' ' -- $fields[2]
      return
    end
  end
  if string match -q -- '-*' $current
    string replace -r '^([^|]*)\|[^|]*\|(.*)$' '$1\t$2' -- $options
  else
    __fish_complete_path $current
  end
end
for program in pregate pregate-router pregate-worker pregate-scheduler pregate-gateway
  complete -c $program -f -a '(__pregate_complete)'
end
)sh";
constexpr char kFishGroup[] =
    R"sh(          case @GROUP@
            set words @WORDS@)sh";

std::string FromTemplate(const char* script, const char* group_case) {
  std::vector<std::string> first = {"help"}, groups, cases;
  for (const Command& c : Commands()) {
    const bool grouped = *c.group != '\0';
    if (!grouped) first.push_back(c.name);
    if (grouped && (groups.empty() || groups.back() != c.group)) groups.push_back(c.group);
  }
  for (const std::string& group : groups) {
    std::vector<std::string> words;
    for (const Command& c : Commands()) {
      if (group == c.group) words.push_back(c.name);
    }
    cases.push_back(absl::StrReplaceAll(
        group_case, {{"@GROUP@", group}, {"@WORDS@", absl::StrJoin(words, " ")}}));
    first.push_back(group);
  }
  return absl::StrReplaceAll(script, {{"@FIRST@", absl::StrJoin(first, " ")},
                                      {"@GROUPNAMES@", absl::StrJoin(groups, " ")},
                                      {"@GROUPS@", absl::StrJoin(cases, "\n")}});
}

}  // namespace

int Completion(int argc, const char* const* argv) {
  std::string shell;
  OptionSet set("pregate completion",
                "Prints a script that completes commands and options of all programs: "
                "source <(pregate completion bash), or pregate completion fish | source.");
  set.Choice("shell", &shell, {"bash", "zsh", "fish"}, "whose script to print")
      .Required()
      .Positional();
  PARSE_OPTIONS_OR_RETURN(set, "completion", argc, argv);
  const std::string script = shell == "bash"  ? FromTemplate(kBash, kBashGroup)
                             : shell == "zsh" ? FromTemplate(kZsh, kZshGroup)
                                              : FromTemplate(kFish, kFishGroup);
  std::fputs(script.c_str(), stdout);
  return kExitOk;
}

}  // namespace pregate::cli
