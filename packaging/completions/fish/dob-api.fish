# fish completion for dob-api(8): reads `dob-api --help`, so it never lags behind.
complete -c dob-api -f
complete -c dob-api -n __fish_use_subcommand -a health -d 'ask the running service whether it is healthy'
complete -c dob-api -n __fish_use_subcommand -a export -d 'write all users of the store as JSON lines'
complete -c dob-api -n __fish_use_subcommand -a import -d 'save the users of an export in the store'
complete -c dob-api -n '__fish_seen_subcommand_from export import' -F
complete -c dob-api -n __fish_use_subcommand -a write-secrets -d 'write secrets of the environment to files'
complete -c dob-api -a '(dob-api --help | string replace -rf "^ +(?:-., )?(--[a-z-]+)(?: <.*?>)?\s*(.*)" "\$1\t\$2")'
