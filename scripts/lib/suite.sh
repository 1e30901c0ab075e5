# Sourced. Reads packages of another Debian suite beside the installed one: unpacked into a folder of
# the caller's, never installed. The mirror is the one that apt uses here.

# suite_open FOLDER SUITE: everything apt remembers about SUITE goes to FOLDER.
suite_open() {
    local folder=$1 suite=$2 mirror
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' |
        grep -v security | sort -u | head -n 1)
    [ -n "$mirror" ] || { echo "apt has no Debian mirror configured (or needs: apt-get update)" >&2; return 1; }
    mkdir -p "$folder"/{lists/partial,cache/archives/partial,sources}
    : >"$folder/status"
    cat >"$folder/sources/suite.sources" <<EOF
Types: deb deb-src
URIs: $mirror
Suites: $suite
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
EOF
    cat >"$folder/apt.conf" <<EOF
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$folder/sources";
Dir::Etc::preferencesparts "/dev/null";
Dir::State::lists "$folder/lists";
Dir::State::status "$folder/status";
Dir::Cache "$folder/cache";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
APT::Sandbox::User "root";
EOF
    suite_folder=$folder
    suite_apt apt-get -qq update
}

# suite_apt COMMAND...: an apt command that sees the opened suite only.
suite_apt() { APT_CONFIG=$suite_folder/apt.conf "$@"; }

# suite_version PACKAGE: its version there; fails if there is none.
suite_version() {
    local version
    version=$(suite_apt apt-cache policy "$1" | awk '/Candidate:/ { print $2 }')
    [ -n "$version" ] && [ "$version" != "(none)" ] && echo "$version"
}

# suite_unpack FOLDER PACKAGE...: downloads the packages, checked by apt, and unpacks them into FOLDER.
suite_unpack() {
    local into=$1 debs
    shift
    debs=$(mktemp -d "$suite_folder/debs.XXXXXX")
    (cd "$debs" && suite_apt apt-get -qq download "$@") || return 1
    for deb in "$debs"/*.deb; do dpkg -x "$deb" "$into" || return 1; done
}
