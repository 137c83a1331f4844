# Sourced by quickstart.sh and tests/run.sh, in the source folder: what they need, and the
# build in build/.

say() {
    printf '\n== %s\n' "$*"
}

# packages NAME...: install Debian packages, or say which to install.
packages() {
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "Please install, by the names that your system gives them: $*" >&2
        return 1
    fi
    if [ "$(id -u)" = 0 ]; then
        as_root=
    elif sudo -n true 2>/dev/null; then
        as_root='sudo -n'
    else
        echo "Please run:  sudo apt-get install $*" >&2
        return 1
    fi
    say "installing $*"
    $as_root apt-get update -q </dev/null &&
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y \
            --no-install-recommends "$@" </dev/null
}

# Whether the C compiler makes programs: it may be there without the C library's headers.
cc_works() {
    echo 'int main(void) { return 0; }' >"$1/cc.c" &&
        ${CC:-cc} -o "$1/cc" "$1/cc.c" -pthread -lm 2>/dev/null
}

# Install what the build needs and is not there.
need_tools() {
    missing=
    folder=$(mktemp -d)
    cc_works "$folder" || missing="$missing gcc libc6-dev"
    rm -rf "$folder"
    command -v ld >/dev/null 2>&1 || missing="$missing binutils"
    command -v meson >/dev/null 2>&1 || missing="$missing meson"
    command -v ninja >/dev/null 2>&1 || missing="$missing ninja-build"
    command -v pkg-config >/dev/null 2>&1 || missing="$missing pkg-config"
    command -v python3 >/dev/null 2>&1 || missing="$missing python3"
    # shellcheck disable=SC2086
    [ -z "$missing" ] || packages $missing
}

# build [MESON OPTION...]: configure build/ if it is not yet, or not so, and compile.
build() {
    if [ ! -f build/build.ninja ]; then
        say "configuring"
        meson setup build "$@" </dev/null
    elif [ $# -gt 0 ]; then
        meson configure build "$@" </dev/null
    fi
    say "building"
    meson compile -C build </dev/null
}
