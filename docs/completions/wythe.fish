# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_wythe_global_optspecs
    string join \n root= D/debug tls-verify= h/help V/version
end

function __fish_wythe_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_wythe_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_wythe_using_subcommand
    set -l cmd (__fish_wythe_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c wythe -n "__fish_wythe_needs_command" -l root -d 'Directory of the store [default: /var/lib/wythe as root, else ~/.local/share/wythe]' -r -F
complete -c wythe -n "__fish_wythe_needs_command" -l tls-verify -d 'Only HTTPS with verified certificates; `=false` also takes less' -r -f -a "true\t''
false\t''"
complete -c wythe -n "__fish_wythe_needs_command" -s D -l debug -d 'Say more on standard error: -D for steps, twice for everything'
complete -c wythe -n "__fish_wythe_needs_command" -s h -l help -d 'Print help'
complete -c wythe -n "__fish_wythe_needs_command" -s V -l version -d 'Print version'
complete -c wythe -n "__fish_wythe_needs_command" -f -a "build" -d 'Build an image from a Dockerfile'
complete -c wythe -n "__fish_wythe_needs_command" -f -a "pull" -d 'Fetch an image from a registry'
complete -c wythe -n "__fish_wythe_needs_command" -f -a "push" -d 'Send an image to a registry'
complete -c wythe -n "__fish_wythe_needs_command" -f -a "run" -d 'Run a command in a new container'
complete -c wythe -n "__fish_wythe_needs_command" -f -a "images" -d 'List the images in the store'
complete -c wythe -n "__fish_wythe_needs_command" -f -a "inspect" -d 'Show an image\'s config and manifest'
complete -c wythe -n "__fish_wythe_needs_command" -f -a "history" -d 'Show how an image\'s layers came about'
complete -c wythe -n "__fish_wythe_needs_command" -f -a "tag" -d 'Give an image one more name'
complete -c wythe -n "__fish_wythe_needs_command" -f -a "rmi" -d 'Remove images'
complete -c wythe -n "__fish_wythe_needs_command" -f -a "save" -d 'Write images to an archive or a layout'
complete -c wythe -n "__fish_wythe_needs_command" -f -a "load" -d 'Read images from an archive or a layout'
complete -c wythe -n "__fish_wythe_needs_command" -f -a "login" -d 'Log in to a registry'
complete -c wythe -n "__fish_wythe_needs_command" -f -a "logout" -d 'Forget a registry\'s credentials'
complete -c wythe -n "__fish_wythe_needs_command" -f -a "serve" -d 'Serve the store as a registry'
complete -c wythe -n "__fish_wythe_needs_command" -f -a "mount" -d 'Mount an image\'s root file system, read-only'
complete -c wythe -n "__fish_wythe_needs_command" -f -a "umount" -d 'Unmount what `mount` mounted'
complete -c wythe -n "__fish_wythe_needs_command" -f -a "info" -d 'Show what this machine allows and where things are'
complete -c wythe -n "__fish_wythe_needs_command" -f -a "version" -d 'Show the version'
complete -c wythe -n "__fish_wythe_needs_command" -f -a "completion" -d 'Print a completion script for a shell'
complete -c wythe -n "__fish_wythe_needs_command" -f -a "man" -d 'Write the manual pages'
complete -c wythe -n "__fish_wythe_using_subcommand build" -s f -l file -d 'The Dockerfile; `-` is standard input [default: CONTEXT/Dockerfile, then CONTEXT/Containerfile]' -r -F
complete -c wythe -n "__fish_wythe_using_subcommand build" -s t -l tag -d 'Name the result; may be given several times' -r
complete -c wythe -n "__fish_wythe_using_subcommand build" -s o -l output -d 'Also write the result: `type=oci|docker|tar|local,dest=PATH`, `type=registry`, `type=oci,tar=false,dest=DIR`' -r
complete -c wythe -n "__fish_wythe_using_subcommand build" -l rm -d 'Nothing is left of a step but its layer' -r -f -a "true\t''
false\t''"
complete -c wythe -n "__fish_wythe_using_subcommand build" -l force-rm -d 'The same after a failure' -r -f -a "true\t''
false\t''"
complete -c wythe -n "__fish_wythe_using_subcommand build" -l provenance -d 'No attestation is made' -r
complete -c wythe -n "__fish_wythe_using_subcommand build" -l sbom -d 'No attestation is made' -r
complete -c wythe -n "__fish_wythe_using_subcommand build" -l attest -d 'No attestation is made' -r
complete -c wythe -n "__fish_wythe_using_subcommand build" -l target -d 'Stop at this stage, by name or index' -r
complete -c wythe -n "__fish_wythe_using_subcommand build" -l build-arg -d 'Set a build argument; without a value it is taken from the environment' -r
complete -c wythe -n "__fish_wythe_using_subcommand build" -l build-context -d 'Another context: `NAME=DIR`, `NAME=docker-image://REF`, `NAME=oci-layout://DIR[:TAG][@DIGEST]`, `NAME=` and an archive, http(s) or git address' -r
complete -c wythe -n "__fish_wythe_using_subcommand build" -l label -d 'Add a label' -r
complete -c wythe -n "__fish_wythe_using_subcommand build" -l annotation -d 'Add an annotation to the manifest' -r
complete -c wythe -n "__fish_wythe_using_subcommand build" -l platform -d 'Build for this platform' -r
complete -c wythe -n "__fish_wythe_using_subcommand build" -l no-cache-filter -d 'Run the steps of this stage again' -r
complete -c wythe -n "__fish_wythe_using_subcommand build" -l rewrite-timestamp -d 'Clamp times of files in new layers to SOURCE_DATE_EPOCH, else to 1970; `=false` keeps them' -r -f -a "true\t''
false\t''"
complete -c wythe -n "__fish_wythe_using_subcommand build" -l network -d 'Network of RUN steps' -r -f -a "default\t'As private, or the host\'s where pasta cannot serve'
private\t'Their own, which reaches the outside through pasta'
none\t'Their own, with the loopback device only'
host\t'The host\'s'"
complete -c wythe -n "__fish_wythe_using_subcommand build" -l secret -d 'A secret for `RUN --mount=type=secret`: `id=ID[,src=FILE|,env=NAME]`' -r
complete -c wythe -n "__fish_wythe_using_subcommand build" -l ssh -d 'An agent for `RUN --mount=type=ssh`: `default`, `ID=SOCKET[,raw=true]` or `ID=KEY[,KEY…]`' -r
complete -c wythe -n "__fish_wythe_using_subcommand build" -l allow -d 'Allow what is off by default: `security.insecure`, `network.host`' -r
complete -c wythe -n "__fish_wythe_using_subcommand build" -l add-host -d 'A line of /etc/hosts for RUN steps' -r
complete -c wythe -n "__fish_wythe_using_subcommand build" -l ulimit -d 'A resource limit of RUN steps' -r
complete -c wythe -n "__fish_wythe_using_subcommand build" -l shm-size -d 'Size of /dev/shm in RUN steps [default: 64m]' -r
complete -c wythe -n "__fish_wythe_using_subcommand build" -l iidfile -d 'Write the image ID to a file' -r -F
complete -c wythe -n "__fish_wythe_using_subcommand build" -l metadata-file -d 'Write what was built, as JSON, to a file' -r -F
complete -c wythe -n "__fish_wythe_using_subcommand build" -l call -d 'Ask about the Dockerfile: `check`, `outline` or `targets`, `,format=json`; build nothing' -r
complete -c wythe -n "__fish_wythe_using_subcommand build" -l format -d 'How `--check` and `--call` print' -r -f -a "table\t'For people'
json\t'For scripts; stable'"
complete -c wythe -n "__fish_wythe_using_subcommand build" -l progress -d 'How to show progress' -r -f -a "auto\t'`tty` on a terminal, else `plain`'
tty\t'Bars that move'
plain\t'Lines'
quiet\t'Nothing but errors'"
complete -c wythe -n "__fish_wythe_using_subcommand build" -l jobs -d 'Steps, downloads and compressors at work at once [default: number of processors]' -r
complete -c wythe -n "__fish_wythe_using_subcommand build" -l root -d 'Directory of the store [default: /var/lib/wythe as root, else ~/.local/share/wythe]' -r -F
complete -c wythe -n "__fish_wythe_using_subcommand build" -l tls-verify -d 'Only HTTPS with verified certificates; `=false` also takes less' -r -f -a "true\t''
false\t''"
complete -c wythe -n "__fish_wythe_using_subcommand build" -l push -d 'Push the result to the registries its names say; short for `--output type=registry`'
complete -c wythe -n "__fish_wythe_using_subcommand build" -l load -d 'The store always has the result'
complete -c wythe -n "__fish_wythe_using_subcommand build" -l no-cache -d 'Run every step again'
complete -c wythe -n "__fish_wythe_using_subcommand build" -l pull -d 'Ask the registries for the newest base images'
complete -c wythe -n "__fish_wythe_using_subcommand build" -l check -d 'Check the Dockerfile, or all below a directory that has none itself, and build nothing'
complete -c wythe -n "__fish_wythe_using_subcommand build" -s q -l quiet -d 'Print only the image ID'
complete -c wythe -n "__fish_wythe_using_subcommand build" -s D -l debug -d 'Say more on standard error: -D for steps, twice for everything'
complete -c wythe -n "__fish_wythe_using_subcommand build" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wythe -n "__fish_wythe_using_subcommand build" -s V -l version -d 'Print version'
complete -c wythe -n "__fish_wythe_using_subcommand pull" -l platform -d 'Choose this platform\'s image' -r
complete -c wythe -n "__fish_wythe_using_subcommand pull" -l progress -d 'How to show progress' -r -f -a "auto\t'`tty` on a terminal, else `plain`'
tty\t'Bars that move'
plain\t'Lines'
quiet\t'Nothing but errors'"
complete -c wythe -n "__fish_wythe_using_subcommand pull" -l jobs -d 'Downloads at once' -r
complete -c wythe -n "__fish_wythe_using_subcommand pull" -l root -d 'Directory of the store [default: /var/lib/wythe as root, else ~/.local/share/wythe]' -r -F
complete -c wythe -n "__fish_wythe_using_subcommand pull" -l tls-verify -d 'Only HTTPS with verified certificates; `=false` also takes less' -r -f -a "true\t''
false\t''"
complete -c wythe -n "__fish_wythe_using_subcommand pull" -s q -l quiet -d 'Print only the digest'
complete -c wythe -n "__fish_wythe_using_subcommand pull" -s D -l debug -d 'Say more on standard error: -D for steps, twice for everything'
complete -c wythe -n "__fish_wythe_using_subcommand pull" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wythe -n "__fish_wythe_using_subcommand pull" -s V -l version -d 'Print version'
complete -c wythe -n "__fish_wythe_using_subcommand push" -l progress -d 'How to show progress' -r -f -a "auto\t'`tty` on a terminal, else `plain`'
tty\t'Bars that move'
plain\t'Lines'
quiet\t'Nothing but errors'"
complete -c wythe -n "__fish_wythe_using_subcommand push" -l jobs -d 'Uploads at once' -r
complete -c wythe -n "__fish_wythe_using_subcommand push" -l compression -d 'How to compress layers that have not been compressed yet' -r -f -a "gzip\t'Everything reads it'
zstd\t'Faster and smaller'
uncompressed\t'Plain tar'"
complete -c wythe -n "__fish_wythe_using_subcommand push" -l root -d 'Directory of the store [default: /var/lib/wythe as root, else ~/.local/share/wythe]' -r -F
complete -c wythe -n "__fish_wythe_using_subcommand push" -l tls-verify -d 'Only HTTPS with verified certificates; `=false` also takes less' -r -f -a "true\t''
false\t''"
complete -c wythe -n "__fish_wythe_using_subcommand push" -s q -l quiet -d 'Print only the digest'
complete -c wythe -n "__fish_wythe_using_subcommand push" -s D -l debug -d 'Say more on standard error: -D for steps, twice for everything'
complete -c wythe -n "__fish_wythe_using_subcommand push" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wythe -n "__fish_wythe_using_subcommand push" -s V -l version -d 'Print version'
complete -c wythe -n "__fish_wythe_using_subcommand run" -s e -l env -d 'Set an environment variable; without a value it is taken from the environment' -r
complete -c wythe -n "__fish_wythe_using_subcommand run" -l env-file -d 'Read environment variables from a file' -r -F
complete -c wythe -n "__fish_wythe_using_subcommand run" -s u -l user -d 'Run as this user: `name`, `uid`, `name:group`, `uid:gid`' -r
complete -c wythe -n "__fish_wythe_using_subcommand run" -s w -l workdir -d 'Start in this directory' -r
complete -c wythe -n "__fish_wythe_using_subcommand run" -l entrypoint -d 'Run this instead of the image\'s entrypoint; empty for none' -r
complete -c wythe -n "__fish_wythe_using_subcommand run" -s v -l volume -d 'Bind a host path: `/host:/container[:ro]`' -r
complete -c wythe -n "__fish_wythe_using_subcommand run" -l mount -d 'Mount a file system: `type=bind,src=…,dst=…[,ro]`, `type=tmpfs,dst=…`' -r
complete -c wythe -n "__fish_wythe_using_subcommand run" -l tmpfs -d 'A memory file system: `/path[:size=64m,mode=1777]`' -r
complete -c wythe -n "__fish_wythe_using_subcommand run" -l network -d 'Network' -r -f -a "default\t'Its own, with the loopback device only'
private\t'Its own, which reaches the outside through pasta'
none\t'Its own, with the loopback device only'
host\t'The host\'s'"
complete -c wythe -n "__fish_wythe_using_subcommand run" -l hostname -d 'Host name' -r
complete -c wythe -n "__fish_wythe_using_subcommand run" -l cap-add -d 'Add a capability' -r
complete -c wythe -n "__fish_wythe_using_subcommand run" -l cap-drop -d 'Drop a capability; `ALL` for all' -r
complete -c wythe -n "__fish_wythe_using_subcommand run" -l security-opt -d '`no-new-privileges`, `seccomp=unconfined`' -r
complete -c wythe -n "__fish_wythe_using_subcommand run" -l platform -d 'Choose this platform\'s image' -r
complete -c wythe -n "__fish_wythe_using_subcommand run" -l pull -d 'When to ask the registry for the image' -r -f -a "always\t'Ask for the newest each time'
missing\t'Only if it is not in the store'
never\t'Never'"
complete -c wythe -n "__fish_wythe_using_subcommand run" -l root -d 'Directory of the store [default: /var/lib/wythe as root, else ~/.local/share/wythe]' -r -F
complete -c wythe -n "__fish_wythe_using_subcommand run" -l tls-verify -d 'Only HTTPS with verified certificates; `=false` also takes less' -r -f -a "true\t''
false\t''"
complete -c wythe -n "__fish_wythe_using_subcommand run" -s i -l interactive -d 'Keep standard input open'
complete -c wythe -n "__fish_wythe_using_subcommand run" -s t -l tty -d 'Give it a terminal'
complete -c wythe -n "__fish_wythe_using_subcommand run" -l rm -d 'Accepted for Docker\'s sake: a container never outlives its command'
complete -c wythe -n "__fish_wythe_using_subcommand run" -l read-only -d 'Make the root file system read-only'
complete -c wythe -n "__fish_wythe_using_subcommand run" -l init -d 'Run a small init as process 1 that reaps and forwards signals'
complete -c wythe -n "__fish_wythe_using_subcommand run" -s q -l quiet -d 'Do not show the pull\'s progress'
complete -c wythe -n "__fish_wythe_using_subcommand run" -s D -l debug -d 'Say more on standard error: -D for steps, twice for everything'
complete -c wythe -n "__fish_wythe_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wythe -n "__fish_wythe_using_subcommand run" -s V -l version -d 'Print version'
complete -c wythe -n "__fish_wythe_using_subcommand images" -l format -d 'How to print' -r -f -a "table\t'For people'
json\t'For scripts; stable'"
complete -c wythe -n "__fish_wythe_using_subcommand images" -l root -d 'Directory of the store [default: /var/lib/wythe as root, else ~/.local/share/wythe]' -r -F
complete -c wythe -n "__fish_wythe_using_subcommand images" -l tls-verify -d 'Only HTTPS with verified certificates; `=false` also takes less' -r -f -a "true\t''
false\t''"
complete -c wythe -n "__fish_wythe_using_subcommand images" -s q -l quiet -d 'Print only image IDs'
complete -c wythe -n "__fish_wythe_using_subcommand images" -l digests -d 'Print digests too'
complete -c wythe -n "__fish_wythe_using_subcommand images" -l no-trunc -d 'Do not shorten IDs'
complete -c wythe -n "__fish_wythe_using_subcommand images" -s D -l debug -d 'Say more on standard error: -D for steps, twice for everything'
complete -c wythe -n "__fish_wythe_using_subcommand images" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wythe -n "__fish_wythe_using_subcommand images" -s V -l version -d 'Print version'
complete -c wythe -n "__fish_wythe_using_subcommand inspect" -l platform -d 'Choose this platform\'s image' -r
complete -c wythe -n "__fish_wythe_using_subcommand inspect" -l root -d 'Directory of the store [default: /var/lib/wythe as root, else ~/.local/share/wythe]' -r -F
complete -c wythe -n "__fish_wythe_using_subcommand inspect" -l tls-verify -d 'Only HTTPS with verified certificates; `=false` also takes less' -r -f -a "true\t''
false\t''"
complete -c wythe -n "__fish_wythe_using_subcommand inspect" -l raw -d 'Print the manifest\'s exact bytes'
complete -c wythe -n "__fish_wythe_using_subcommand inspect" -l config -d 'Print the config\'s exact bytes'
complete -c wythe -n "__fish_wythe_using_subcommand inspect" -s D -l debug -d 'Say more on standard error: -D for steps, twice for everything'
complete -c wythe -n "__fish_wythe_using_subcommand inspect" -s h -l help -d 'Print help'
complete -c wythe -n "__fish_wythe_using_subcommand inspect" -s V -l version -d 'Print version'
complete -c wythe -n "__fish_wythe_using_subcommand history" -l format -d 'How to print' -r -f -a "table\t'For people'
json\t'For scripts; stable'"
complete -c wythe -n "__fish_wythe_using_subcommand history" -l root -d 'Directory of the store [default: /var/lib/wythe as root, else ~/.local/share/wythe]' -r -F
complete -c wythe -n "__fish_wythe_using_subcommand history" -l tls-verify -d 'Only HTTPS with verified certificates; `=false` also takes less' -r -f -a "true\t''
false\t''"
complete -c wythe -n "__fish_wythe_using_subcommand history" -l no-trunc -d 'Do not shorten instructions'
complete -c wythe -n "__fish_wythe_using_subcommand history" -s D -l debug -d 'Say more on standard error: -D for steps, twice for everything'
complete -c wythe -n "__fish_wythe_using_subcommand history" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wythe -n "__fish_wythe_using_subcommand history" -s V -l version -d 'Print version'
complete -c wythe -n "__fish_wythe_using_subcommand tag" -l root -d 'Directory of the store [default: /var/lib/wythe as root, else ~/.local/share/wythe]' -r -F
complete -c wythe -n "__fish_wythe_using_subcommand tag" -l tls-verify -d 'Only HTTPS with verified certificates; `=false` also takes less' -r -f -a "true\t''
false\t''"
complete -c wythe -n "__fish_wythe_using_subcommand tag" -s D -l debug -d 'Say more on standard error: -D for steps, twice for everything'
complete -c wythe -n "__fish_wythe_using_subcommand tag" -s h -l help -d 'Print help'
complete -c wythe -n "__fish_wythe_using_subcommand tag" -s V -l version -d 'Print version'
complete -c wythe -n "__fish_wythe_using_subcommand rmi" -l root -d 'Directory of the store [default: /var/lib/wythe as root, else ~/.local/share/wythe]' -r -F
complete -c wythe -n "__fish_wythe_using_subcommand rmi" -l tls-verify -d 'Only HTTPS with verified certificates; `=false` also takes less' -r -f -a "true\t''
false\t''"
complete -c wythe -n "__fish_wythe_using_subcommand rmi" -s f -l force -d 'It is no error if there is no such image'
complete -c wythe -n "__fish_wythe_using_subcommand rmi" -l no-prune -d 'Keep the layers that no image needs any more'
complete -c wythe -n "__fish_wythe_using_subcommand rmi" -s D -l debug -d 'Say more on standard error: -D for steps, twice for everything'
complete -c wythe -n "__fish_wythe_using_subcommand rmi" -s h -l help -d 'Print help'
complete -c wythe -n "__fish_wythe_using_subcommand rmi" -s V -l version -d 'Print version'
complete -c wythe -n "__fish_wythe_using_subcommand save" -l format -d 'What to write' -r -f -a "docker-archive\t'What `docker load` reads'
oci-archive\t'An OCI image layout in a tar'
oci-dir\t'An OCI image layout as a directory'"
complete -c wythe -n "__fish_wythe_using_subcommand save" -s o -l output -d 'Where to; a directory for `oci-dir` [default: standard output]' -r -F
complete -c wythe -n "__fish_wythe_using_subcommand save" -l progress -d 'How to show progress' -r -f -a "auto\t'`tty` on a terminal, else `plain`'
tty\t'Bars that move'
plain\t'Lines'
quiet\t'Nothing but errors'"
complete -c wythe -n "__fish_wythe_using_subcommand save" -l root -d 'Directory of the store [default: /var/lib/wythe as root, else ~/.local/share/wythe]' -r -F
complete -c wythe -n "__fish_wythe_using_subcommand save" -l tls-verify -d 'Only HTTPS with verified certificates; `=false` also takes less' -r -f -a "true\t''
false\t''"
complete -c wythe -n "__fish_wythe_using_subcommand save" -s D -l debug -d 'Say more on standard error: -D for steps, twice for everything'
complete -c wythe -n "__fish_wythe_using_subcommand save" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wythe -n "__fish_wythe_using_subcommand save" -s V -l version -d 'Print version'
complete -c wythe -n "__fish_wythe_using_subcommand load" -s i -l input -d 'The archive or layout directory; its kind is found out [default: standard input]' -r -F
complete -c wythe -n "__fish_wythe_using_subcommand load" -l progress -d 'How to show progress' -r -f -a "auto\t'`tty` on a terminal, else `plain`'
tty\t'Bars that move'
plain\t'Lines'
quiet\t'Nothing but errors'"
complete -c wythe -n "__fish_wythe_using_subcommand load" -l root -d 'Directory of the store [default: /var/lib/wythe as root, else ~/.local/share/wythe]' -r -F
complete -c wythe -n "__fish_wythe_using_subcommand load" -l tls-verify -d 'Only HTTPS with verified certificates; `=false` also takes less' -r -f -a "true\t''
false\t''"
complete -c wythe -n "__fish_wythe_using_subcommand load" -s q -l quiet -d 'Print only names'
complete -c wythe -n "__fish_wythe_using_subcommand load" -s D -l debug -d 'Say more on standard error: -D for steps, twice for everything'
complete -c wythe -n "__fish_wythe_using_subcommand load" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wythe -n "__fish_wythe_using_subcommand load" -s V -l version -d 'Print version'
complete -c wythe -n "__fish_wythe_using_subcommand login" -s u -l username -d 'User name' -r
complete -c wythe -n "__fish_wythe_using_subcommand login" -s p -l password -d 'Password; others on this machine can see it, better `--password-stdin`' -r
complete -c wythe -n "__fish_wythe_using_subcommand login" -l root -d 'Directory of the store [default: /var/lib/wythe as root, else ~/.local/share/wythe]' -r -F
complete -c wythe -n "__fish_wythe_using_subcommand login" -l tls-verify -d 'Only HTTPS with verified certificates; `=false` also takes less' -r -f -a "true\t''
false\t''"
complete -c wythe -n "__fish_wythe_using_subcommand login" -l password-stdin -d 'Read the password from standard input'
complete -c wythe -n "__fish_wythe_using_subcommand login" -s D -l debug -d 'Say more on standard error: -D for steps, twice for everything'
complete -c wythe -n "__fish_wythe_using_subcommand login" -s h -l help -d 'Print help'
complete -c wythe -n "__fish_wythe_using_subcommand login" -s V -l version -d 'Print version'
complete -c wythe -n "__fish_wythe_using_subcommand logout" -l root -d 'Directory of the store [default: /var/lib/wythe as root, else ~/.local/share/wythe]' -r -F
complete -c wythe -n "__fish_wythe_using_subcommand logout" -l tls-verify -d 'Only HTTPS with verified certificates; `=false` also takes less' -r -f -a "true\t''
false\t''"
complete -c wythe -n "__fish_wythe_using_subcommand logout" -s D -l debug -d 'Say more on standard error: -D for steps, twice for everything'
complete -c wythe -n "__fish_wythe_using_subcommand logout" -s h -l help -d 'Print help'
complete -c wythe -n "__fish_wythe_using_subcommand logout" -s V -l version -d 'Print version'
complete -c wythe -n "__fish_wythe_using_subcommand serve" -l listen -d 'Address to listen on; port 0 takes any free one' -r
complete -c wythe -n "__fish_wythe_using_subcommand serve" -l port-file -d 'Write the address that was taken to this file once it is ready' -r -F
complete -c wythe -n "__fish_wythe_using_subcommand serve" -l root -d 'Directory of the store [default: /var/lib/wythe as root, else ~/.local/share/wythe]' -r -F
complete -c wythe -n "__fish_wythe_using_subcommand serve" -l tls-verify -d 'Only HTTPS with verified certificates; `=false` also takes less' -r -f -a "true\t''
false\t''"
complete -c wythe -n "__fish_wythe_using_subcommand serve" -s D -l debug -d 'Say more on standard error: -D for steps, twice for everything'
complete -c wythe -n "__fish_wythe_using_subcommand serve" -s h -l help -d 'Print help'
complete -c wythe -n "__fish_wythe_using_subcommand serve" -s V -l version -d 'Print version'
complete -c wythe -n "__fish_wythe_using_subcommand mount" -l root -d 'Directory of the store [default: /var/lib/wythe as root, else ~/.local/share/wythe]' -r -F
complete -c wythe -n "__fish_wythe_using_subcommand mount" -l tls-verify -d 'Only HTTPS with verified certificates; `=false` also takes less' -r -f -a "true\t''
false\t''"
complete -c wythe -n "__fish_wythe_using_subcommand mount" -s D -l debug -d 'Say more on standard error: -D for steps, twice for everything'
complete -c wythe -n "__fish_wythe_using_subcommand mount" -s h -l help -d 'Print help'
complete -c wythe -n "__fish_wythe_using_subcommand mount" -s V -l version -d 'Print version'
complete -c wythe -n "__fish_wythe_using_subcommand umount" -l root -d 'Directory of the store [default: /var/lib/wythe as root, else ~/.local/share/wythe]' -r -F
complete -c wythe -n "__fish_wythe_using_subcommand umount" -l tls-verify -d 'Only HTTPS with verified certificates; `=false` also takes less' -r -f -a "true\t''
false\t''"
complete -c wythe -n "__fish_wythe_using_subcommand umount" -s D -l debug -d 'Say more on standard error: -D for steps, twice for everything'
complete -c wythe -n "__fish_wythe_using_subcommand umount" -s h -l help -d 'Print help'
complete -c wythe -n "__fish_wythe_using_subcommand umount" -s V -l version -d 'Print version'
complete -c wythe -n "__fish_wythe_using_subcommand info" -l format -d 'How to print' -r -f -a "table\t'For people'
json\t'For scripts; stable'"
complete -c wythe -n "__fish_wythe_using_subcommand info" -l root -d 'Directory of the store [default: /var/lib/wythe as root, else ~/.local/share/wythe]' -r -F
complete -c wythe -n "__fish_wythe_using_subcommand info" -l tls-verify -d 'Only HTTPS with verified certificates; `=false` also takes less' -r -f -a "true\t''
false\t''"
complete -c wythe -n "__fish_wythe_using_subcommand info" -l verify -d 'Read the whole store and check every digest'
complete -c wythe -n "__fish_wythe_using_subcommand info" -s D -l debug -d 'Say more on standard error: -D for steps, twice for everything'
complete -c wythe -n "__fish_wythe_using_subcommand info" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wythe -n "__fish_wythe_using_subcommand info" -s V -l version -d 'Print version'
complete -c wythe -n "__fish_wythe_using_subcommand version" -l format -d 'How to print' -r -f -a "table\t'For people'
json\t'For scripts; stable'"
complete -c wythe -n "__fish_wythe_using_subcommand version" -l root -d 'Directory of the store [default: /var/lib/wythe as root, else ~/.local/share/wythe]' -r -F
complete -c wythe -n "__fish_wythe_using_subcommand version" -l tls-verify -d 'Only HTTPS with verified certificates; `=false` also takes less' -r -f -a "true\t''
false\t''"
complete -c wythe -n "__fish_wythe_using_subcommand version" -s D -l debug -d 'Say more on standard error: -D for steps, twice for everything'
complete -c wythe -n "__fish_wythe_using_subcommand version" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wythe -n "__fish_wythe_using_subcommand version" -s V -l version -d 'Print version'
complete -c wythe -n "__fish_wythe_using_subcommand completion" -l root -d 'Directory of the store [default: /var/lib/wythe as root, else ~/.local/share/wythe]' -r -F
complete -c wythe -n "__fish_wythe_using_subcommand completion" -l tls-verify -d 'Only HTTPS with verified certificates; `=false` also takes less' -r -f -a "true\t''
false\t''"
complete -c wythe -n "__fish_wythe_using_subcommand completion" -s D -l debug -d 'Say more on standard error: -D for steps, twice for everything'
complete -c wythe -n "__fish_wythe_using_subcommand completion" -s h -l help -d 'Print help'
complete -c wythe -n "__fish_wythe_using_subcommand completion" -s V -l version -d 'Print version'
complete -c wythe -n "__fish_wythe_using_subcommand man" -l root -d 'Directory of the store [default: /var/lib/wythe as root, else ~/.local/share/wythe]' -r -F
complete -c wythe -n "__fish_wythe_using_subcommand man" -l tls-verify -d 'Only HTTPS with verified certificates; `=false` also takes less' -r -f -a "true\t''
false\t''"
complete -c wythe -n "__fish_wythe_using_subcommand man" -s D -l debug -d 'Say more on standard error: -D for steps, twice for everything'
complete -c wythe -n "__fish_wythe_using_subcommand man" -s h -l help -d 'Print help'
complete -c wythe -n "__fish_wythe_using_subcommand man" -s V -l version -d 'Print version'
