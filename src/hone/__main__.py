from hone.commands.cli import main

main()
